//! Signatures of ours that a client sends back, whatever became of them.
#![no_main]

use cproxy::dialect::carrier::{Carrier, PREFIX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Carrier::read(text);
    if let Ok(Some(carrier)) = Carrier::read(&format!("{PREFIX}{text}")) {
        let written = carrier.write();
        let again = Carrier::read(&written).expect("our own is legal").expect("and ours");
        assert_eq!(
            (again.dialect, again.model, again.signatures),
            (carrier.dialect, carrier.model, carrier.signatures)
        );
    }
    let own = Carrier { dialect: text.to_owned(), model: text.to_owned(), ..Carrier::default() };
    let read = Carrier::read(&own.write()).expect("our own is legal").expect("and ours");
    assert_eq!(read.dialect, text);
});
