#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",",
    "\"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1,\"cache_read_input_tokens\":4}}}\n\n",
    ": a comment\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße\"}}\r\n\r\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\", du\"}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"go\",\"input\":{}}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"1}\"}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":7}}\n\n",
    "data: {\"type\":\"message_stop\"}\n\n",
);

fn streamed(chunks: Vec<Bytes>) -> Answer {
    Answer {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: AnswerBody::Stream(Box::pin(stream::iter(chunks))),
        served: None,
    }
}

async fn read(chunks: Vec<Bytes>) -> (Collected, String) {
    let (pieces, mut shown) = mpsc::channel(100);
    let collected = collect(streamed(chunks), Some(&pieces)).await;
    drop(pieces);
    let mut all = String::new();
    while let Some(piece) = shown.recv().await {
        all.push_str(&piece);
    }
    (collected, all)
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_into_chunks_the_answer_is_the_same(cuts in prop::collection::vec(0..STREAM.len(), 0..40)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([STREAM.len()]) {
            chunks.push(Bytes::copy_from_slice(&STREAM.as_bytes()[from..cut]));
            from = cut;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (answer, shown) = runtime.block_on(read(chunks));
        prop_assert_eq!(&answer.failure, &None);
        prop_assert_eq!(answer.text(), "Grüße, du");
        prop_assert_eq!(shown, "Grüße, du");
        prop_assert_eq!(answer.tool_calls(), vec![json!({ "id": "t1", "name": "go", "arguments": { "a": 1 } })]);
        prop_assert_eq!(answer.stop_reason.as_deref(), Some("tool_use"));
        let usage = answer.usage.unwrap();
        prop_assert_eq!((usage.input, usage.output, usage.cache_read), (9, 7, 4));
    }

    #[test]
    fn a_stream_that_is_cut_short_never_ends_well(end in 0..STREAM.len() - 2) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (answer, _) = runtime.block_on(read(vec![Bytes::copy_from_slice(&STREAM.as_bytes()[..end])]));
        prop_assert!(answer.failure.is_some());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (answer, _) = runtime.block_on(read(vec![Bytes::from(bytes)]));
        prop_assert!(answer.failure.is_some());
    }
}

#[tokio::test]
async fn an_error_event_keeps_what_came_before_it() {
    let cut = STREAM.find("data: {\"type\":\"message_delta\"").unwrap();
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let (answer, _) = read(vec![Bytes::from(format!("{}{error}", &STREAM[..cut]))]).await;
    assert_eq!(answer.text(), "Grüße, du");
    assert_eq!(answer.failure.unwrap().kind, "overloaded_error");
}

#[tokio::test]
async fn a_whole_error_is_read_with_its_status_and_wait() {
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "7".parse().unwrap());
    let answer = Answer {
        status: StatusCode::TOO_MANY_REQUESTS,
        headers,
        body: AnswerBody::Whole(Bytes::from_static(
            br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#,
        )),
        served: None,
    };
    let failure = collect(answer, None).await.failure.unwrap();
    assert_eq!(
        failure,
        Failure {
            kind: "rate_limit_error".into(),
            message: "slow down".into(),
            status: Some(429),
            retry_after_s: Some(7),
        }
    );
}
