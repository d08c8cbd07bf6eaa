//! Writers whose place another took and gave back: what they planned before is not shipped on top
//! of what came meanwhile.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jetbridge_core::{ErrorKind, Tasks};
use jetbridge_sqlite::Txid;
use jetbridge_sqlite::capture::{Delta, Pages, Scope, Uplink as _};
use jetbridge_sqlite::uplink::StoreUplink;
use tokio::sync::oneshot;

use super::gate::Gate;
use super::history::History;
use super::rig::Rig;
use super::uplink::{base, change, check, delta, held, pages, streamed, uplink};

const GRACE: Duration = Duration::from_secs(5);

/// A writer that has shipped a base and a change, and gives no sign of life any more.
async fn silent(rig: &Rig) -> (StoreUplink, History, Txid) {
    let tasks = Tasks::new();
    let mine = uplink(rig, "mine", &tasks);
    let mut history = History::new(21, 40);
    let txid = mine.ship(base(&history, Txid(1), held)).await.unwrap();
    history.step();
    let txid = mine.ship(change(&history, txid.next(), held)).await.unwrap();
    assert_eq!(tasks.stop(GRACE).await, 0);
    (mine, history, txid)
}

/// Takes the place, ships some changes or a base, and gives it back.
async fn rule(rig: &Rig, history: &mut History, mut txid: Txid, shipped: &[Scope]) -> Txid {
    let tasks = Tasks::new();
    let rival = uplink(rig, "rival", &tasks);
    assert_eq!(rival.head().await.unwrap().unwrap().txid, txid);
    for scope in shipped {
        history.step();
        txid = match scope {
            Scope::Change => rival.ship(change(history, txid.next(), held)).await.unwrap(),
            Scope::Base => rival.ship(base(history, txid.next(), streamed)).await.unwrap(),
        };
    }
    assert_eq!(tasks.stop(GRACE).await, 0);
    rival.close().await.unwrap();
    txid
}

/// Hears that the place was taken, and takes it again.
async fn come_back(rig: &Rig, mine: &StoreUplink) {
    let image = rig.dir.path().join("image.db");
    assert_eq!(mine.image(&image).await.unwrap_err().kind(), ErrorKind::Conflict);
    mine.image(&image).await.unwrap();
}

pub(crate) async fn a_change_planned_before_the_place_was_taken_is_not_shipped(rig: &Rig) {
    let (mine, mut history, txid) = silent(rig).await;
    let mut other = History::new(21, 40);
    other.step();
    let newest = rule(rig, &mut other, txid, &[Scope::Base]).await;
    history.step();
    come_back(rig, &mine).await;
    let error = mine.ship(change(&history, txid.next(), held)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    check(rig, &other, newest).await;
    // Nor is one that has the number of what is there, as if it were sent once more.
    let error = mine.ship(change(&history, newest, streamed)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    // Who has looked goes on.
    assert_eq!(mine.head().await.unwrap().unwrap().txid, newest);
    other.step();
    let after = mine.ship(change(&other, newest.next(), held)).await.unwrap();
    check(rig, &other, after).await;
}

pub(crate) async fn a_base_begun_before_the_place_was_taken_is_not_completed(rig: &Rig) {
    let (mine, history, txid) = silent(rig).await;
    let state = history.states.last().unwrap().clone();
    let size = state.len();
    // Its first page comes at once, the others when the place was taken and given back.
    let (go, gone) = oneshot::channel::<()>();
    let all = pages((1..).zip(state));
    let (first, rest) = (all[..1].to_vec(), all[1..].to_vec());
    let rest = stream::once(async move {
        gone.await.unwrap();
        stream::iter(rest.into_iter().map(Ok))
    });
    let slow =
        Pages::Streamed(stream::iter(first.into_iter().map(Ok)).chain(rest.flatten()).boxed());
    let slow: Delta = delta(txid.next(), size, Scope::Base, slow);
    let mut other = History::new(21, 40);
    other.step();
    let meanwhile = async {
        let newest = rule(rig, &mut other, txid, &[Scope::Change; 2]).await;
        come_back(rig, &mine).await;
        go.send(()).unwrap();
        newest
    };
    let (shipped, newest) = tokio::join!(mine.ship(slow), meanwhile);
    let error = shipped.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    check(rig, &other, newest).await;
    // What it left half done is cleared away by who looks next.
    assert_eq!(mine.head().await.unwrap().unwrap().txid, newest);
    assert!(rig.replica().manifest().await.unwrap().abandoned().is_empty());
}

/// A process that stood still between its look at the fence and its put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_arrives_when_the_place_was_taken_is_not_acknowledged() {
    let gate = Gate::at("object.put", "ltx/0/0000000000000004-");
    let rig = gate.rig().await;
    gate.shut();
    let (mine, mut history, txid) = silent(&rig).await;
    history.step();
    let mut other = History::new(21, 40);
    other.step();
    let meanwhile = async {
        gate.reached().await;
        let newest = rule(&rig, &mut other, txid, &[Scope::Base]).await;
        gate.open();
        newest
    };
    let late = mine.ship(change(&history, txid.next(), held));
    let (shipped, newest) = tokio::join!(late, meanwhile);
    assert_eq!(shipped.unwrap_err().kind(), ErrorKind::Conflict);
    check(&rig, &other, newest).await;
}
