//! An admission through the provider's actor: ask, lease, return. `cargo bench --bench actors`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use cproxy::actors::provider::ProviderMessage;
use cproxy::config::{Environment, Overrides, Source, load};
use cproxy::drill::{Bench, Where};
use cproxy::routing::Ask;
use cproxy::runtime::{ask, clock};
use cproxy::simulator::Script;
use criterion::{Criterion, criterion_group, criterion_main};

const ONE: &str =
    "[providers.local]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:9/v1\"\nmodels = [\"m\"]\n";

fn admission(c: &mut Criterion) {
    for threads in [1, 2] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ONE).unwrap();
        let source = Source::File(file.path().to_owned());
        let loaded = load(&source, &Environment::of_process(), &Overrides::default()).unwrap();
        let bench = runtime.block_on(Bench::start(loaded, Where::Memory, |_| Script::default()));
        let directory = bench.unwrap().directory().clone();
        let entry = directory.entries.load().values().next().unwrap().clone();
        c.bench_function(&format!("admission, {threads} threads"), |b| {
            b.iter_custom(|times| {
                let entry = entry.clone();
                // In a task, as requests are: not from the thread that blocks.
                let asked = runtime.spawn(async move {
                    let began = clock::now();
                    for _ in 0..times {
                        let deadline = clock::now() + Duration::from_secs(1);
                        let wanted = Ask {
                            model: "m".into(),
                            tokens: 1000,
                            session: None,
                            key: None,
                            tried: Vec::new(),
                            last_resort: false,
                            deadline,
                        };
                        let lease = ask(&entry.slot, deadline, |reply| ProviderMessage::Admit(wanted, reply));
                        drop(lease.await.unwrap().unwrap());
                    }
                    clock::now() - began
                });
                runtime.block_on(asked).unwrap()
            });
        });
    }
}

criterion_group!(all, admission);
criterion_main!(all);
