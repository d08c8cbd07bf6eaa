//! Questions and answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use jetbridge_core::{
    Bus, ErrorKind, GroupName, Headers, Message, Outcome, Received, Subscribe, Subscription,
};
use tokio::time::Instant;

use super::steps::{Corner, hear, text};
use crate::contract::steps::{bytes, patience};
use crate::eventually;

const PATIENT: Duration = Duration::from_secs(60);

cases! { $ __bus_request = bus::request;
    /// A question reaches the responder as it was sent, and its answer the one who asked.
    async fn a_question_is_answered(f) {
        let corner = Corner::new(f);
        let mut responder = corner.listen("ask").await;
        let answering = async {
            let question = hear(&mut responder).await;
            assert_eq!(text(&question), "how?");
            assert_eq!(question.headers.get("X-Who"), Some("me"));
            let headers = Headers::new().with("X-Who", "you").unwrap();
            let answer = Message::new(question.reply.unwrap(), "so").headers(headers);
            corner.ours.publish(answer).await.unwrap();
        };
        let headers = Headers::new().with("X-Who", "me").unwrap();
        let question = corner.message("ask", "how?").headers(headers);
        let asking = corner.theirs.request(question, PATIENT);
        let ((), answer) = futures_util::future::join(answering, asking).await;
        let answer = answer.unwrap();
        assert_eq!((text(&answer).as_str(), answer.headers.get("X-Who")), ("so", Some("you")));
    }

    /// Where nobody listens the one who asks need not wait.
    async fn nobody_listening_is_told_at_once(f) {
        let corner = Corner::new(f);
        let start = Instant::now();
        let error = corner.ours.request(corner.message("ask", "?"), PATIENT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
        assert!(start.elapsed() < PATIENT / 2, "after {:?}", start.elapsed());
    }

    /// Where no answer comes, nobody knows whether the question was acted upon.
    async fn silence_is_an_unknown_outcome(f) {
        let corner = Corner::new(f);
        let mut responder = corner.listen("ask").await;
        let patience = Duration::from_millis(300);
        let start = Instant::now();
        let error = corner.theirs.request(corner.message("ask", "?"), patience).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        assert!(start.elapsed() >= patience, "after {:?}", start.elapsed());
        let question = hear(&mut responder).await;
        let late = Message::new(question.reply.unwrap(), "late");
        corner.ours.publish(late).await.unwrap();
        corner.ours.flush().await.unwrap();
    }

    /// Many ask at once; each gets the answer to its own question, and each question one
    /// responder of the group.
    async fn everybody_gets_their_own_answer(f) {
        const COUNT: usize = 60;
        let corner = Corner::new(f);
        let group = || {
            Subscribe::to(corner.pattern("ask")).group(GroupName::parse("responders").unwrap())
        };
        let responders = [
            (Arc::clone(&corner.ours), corner.ours.subscribe(group()).await.unwrap()),
            (Arc::clone(&corner.theirs), corner.theirs.subscribe(group()).await.unwrap()),
        ];
        let answering = join_all(responders.map(|(bus, questions)| answer_all(bus, questions)));
        let questions = (0..COUNT).map(|at| {
            let bus = if at % 2 == 0 { &corner.ours } else { &corner.theirs };
            bus.request(corner.message("ask", &at.to_string()), PATIENT)
        });
        let answers = tokio::select! {
            answers = join_all(questions) => answers,
            _ = answering => panic!("the responders end"),
        };
        let different: BTreeSet<String> = answers
            .into_iter()
            .enumerate()
            .map(|(at, answer)| {
                let answer = text(&answer.unwrap());
                assert!(answer.starts_with(&format!("{at}:")), "{answer} to {at}");
                answer
            })
            .collect();
        assert_eq!(different.len(), COUNT);
    }

    /// A responder that comes later is found by the next question.
    async fn a_new_responder_is_found(f) {
        let corner = Corner::new(f);
        assert!(corner.theirs.request(corner.message("ask", "?"), PATIENT).await.is_err());
        let responder = corner.listen("ask").await;
        let answering = answer_all(Arc::clone(&corner.ours), responder);
        let asking = eventually("an answer", patience(), async || {
            corner.theirs.request(corner.message("ask", "1"), Duration::from_secs(5)).await.ok()
        });
        let answer = tokio::select! {
            answer = asking => answer,
            () = answering => panic!("the responder ends"),
        };
        assert!(text(&answer).starts_with("1:"));
    }
}

/// Answers every question with itself and a number.
async fn answer_all(bus: Arc<dyn Bus>, mut questions: Subscription) {
    let mut answered = 0;
    while let Some(received) = questions.next().await {
        let Received::Message(question) = received.unwrap() else { panic!("dropped") };
        let answer = bytes(format!("{}:{answered}", text(&question)));
        answered += 1;
        bus.publish(Message::new(question.reply.unwrap(), answer)).await.unwrap();
    }
}
