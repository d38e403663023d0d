//! Breakers and health checks.

use std::time::Duration;

use cproxy::simulator::Script;

use crate::inside::{Daemon, asked, in_order, message, pass, provider, says, streamed, upstream, upstreams};

#[tokio::test]
async fn a_breaker_opens_and_a_single_probe_closes_it() {
    let up = upstreams(&["[[rule]]\nanswer = { fail = { status = 500 } }", &says("from b")]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from b");
    assert_eq!(asked(&up[0]), 3);
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from b");
    assert_eq!(asked(&up[0]), 3, "open: not asked");

    pass(Duration::from_secs(20)).await; // half-open, and still ill
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from b");
    assert_eq!(asked(&up[0]), 4, "one probe, no retry");
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from b");
    assert_eq!(asked(&up[0]), 4, "open again");

    up[0].handle().set_script(Script::parse(&says("from a")).unwrap());
    pass(Duration::from_secs(40)).await; // twice as long
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.text(), "from a", "the probe serves its caller: {reply:?}");
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from a");
    assert_eq!(asked(&up[0]), 6);
}

#[tokio::test]
async fn health_monitoring_marks_a_provider_ill_and_well_again() {
    let ill = "[[rule]]\nwhen = { path = \"/v1/models\" }\nanswer = { fail = { status = 503 } }\n".to_owned()
        + &says("from a");
    let up = upstreams(&[&ill, &says("from b")]).await;
    let health = "health = { interval = \"1s\", timeout = \"1s\" }\npriority = 1";
    let config = provider("a", &up[0], health) + &provider("b", &up[1], "priority = 2");
    let daemon = Daemon::start(&config).await;
    let served_by = async |wanted: &str| {
        for _ in 0..500 {
            if daemon.ask(&message("hello")).await.text() == wanted {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    assert!(served_by("from b").await, "an ill provider is passed over");
    up[0].handle().set_script(Script::parse(&says("from a")).unwrap());
    assert!(served_by("from a").await, "and taken again when it is well");
    let probes = up[0].handle().requests();
    let probe = probes.iter().find(|request| request.path == "/v1/models").unwrap();
    assert!(probe.has_key("sk-a"));
}

#[tokio::test]
async fn with_everybody_ill_the_least_bad_is_asked() {
    let ill = "[[rule]]\nwhen = { path = \"/v1/models\" }\nanswer = { fail = { status = 503 } }\n".to_owned()
        + &says("from a");
    let up = upstream(&ill).await;
    let daemon = Daemon::start(&provider("a", &up, "health = { interval = \"1s\", timeout = \"1s\" }")).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from a");
}
