//! Answers that are long in coming: a streaming caller that has waited gets its headers and signs of life, and what
//! becomes of its request follows in the stream.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use tokio::sync::mpsc;

use super::answer::{Answer, AnswerBody};
use super::caller::{error_event, ping};
use super::life::Outcome;
use super::refuse;
use super::relay::PING_EVERY;
use super::request::Request;

/// A request on its way to its commit point.
pub type Life = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What happens to a request, for people; nobody may be telling.
pub type News = Option<mpsc::Receiver<String>>;

/// Where a late answer stands.
enum Late {
    /// Nothing has come yet, and nothing was said yet.
    Silent(Life, News),
    /// Nothing has come yet.
    Waiting(Life, News),
    /// The answer flows.
    Flowing(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// All has been said.
    Ended,
}

/// The answer to a caller whose request still lives.
pub fn late(request: Arc<Request>, life: Life, news: News) -> Answer {
    let headers = refuse::stream_headers(&request);
    let stream = futures_util::stream::unfold(Late::Silent(life, news), move |state| {
        let request = request.clone();
        async move {
            match state {
                Late::Silent(life, news) => Some((ping(request.dialect), Late::Waiting(life, news))),
                Late::Waiting(life, news) => Some(wait(&request, life, news).await),
                Late::Flowing(mut rest) => rest.next().await.map(|piece| (piece, Late::Flowing(rest))),
                Late::Ended => None,
            }
        }
    });
    Answer { status: StatusCode::OK, headers, body: AnswerBody::Stream(Box::pin(stream)), served: None }
}

/// Waits for the commit point, or until it is time for another sign of life.
async fn wait(request: &Request, mut life: Life, mut news: News) -> (Bytes, Late) {
    tokio::select! {
        biased;
        outcome = &mut life => match outcome {
            Ok(Answer { body: AnswerBody::Stream(rest), .. }) => (Bytes::new(), Late::Flowing(rest)),
            Ok(Answer { body: AnswerBody::Whole(bytes), .. }) => (bytes, Late::Ended),
            Err(failure) => (error_event(request.dialect, &failure.fault, &request.id.0), Late::Ended),
        },
        Some(what) = next(&mut news) => (told(&what, request), Late::Waiting(life, news)),
        () = tokio::time::sleep(PING_EVERY) => (ping(request.dialect), Late::Waiting(life, news)),
    }
}

/// The next news.
async fn next(news: &mut News) -> Option<String> {
    match news {
        Some(news) => news.recv().await,
        None => std::future::pending().await,
    }
}

/// News as a comment of the stream, which programs skip and people see, and a sign of life.
pub fn told(what: &str, request: &Request) -> Bytes {
    let mut line = String::with_capacity(what.len() + 4);
    line.push_str(": ");
    line.extend(what.chars().map(|c| if c.is_control() { ' ' } else { c }));
    line.push_str("\n\n");
    [line.as_bytes(), &ping(request.dialect)].concat().into()
}
