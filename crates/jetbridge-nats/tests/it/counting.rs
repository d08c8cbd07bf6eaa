//! Eight processes count on one key, and arrive at the exact number.

use jetbridge_testkit::counting::{count_if_told, eight_processes_count_to_4000};
use jetbridge_testkit::{NatsServer, NatsStorm, Release, ServerOptions, Storm as _};

use crate::store::{Store, connect, connect_to};

const PROCESS: &str = "counting::process";
/// Of a thousand acknowledgements of writes, so many are lost: each costs its process the time of
/// a request.
const ACKS_LOST: u16 = 20;

/// Not a test of its own: what each of the processes runs.
#[tokio::test]
async fn process() {
    count_if_told(async |url| connect_to(url).await).await;
}

async fn eight_processes_count_exactly(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let store = Store { backend: connect(&server).await, server };
    eight_processes_count_to_4000(&store.backend, PROCESS, &[store.server.url()], None).await;
    store.close().await;
}

jetbridge_testkit::on_every_server!(eight_processes_count_exactly);

mod slow {
    use super::*;

    async fn they_do_while_acknowledgements_are_lost_and_the_server_is_killed(release: Release) {
        let storm = NatsStorm::start(release).await;
        let backend = connect(storm.server()).await;
        storm.lose_acks(ACKS_LOST);
        eight_processes_count_to_4000(&backend, PROCESS, &storm.urls(), Some(&storm)).await;
        assert!(storm.acks_lost() > 20, "{} acknowledgements lost", storm.acks_lost());
        assert!(jetbridge_core::Backend::close(&backend, crate::store::GRACE).await.is_clean());
    }

    jetbridge_testkit::on_every_server!(
        they_do_while_acknowledgements_are_lost_and_the_server_is_killed
    );
}
