//! Everything evo's page promises, on every store. The tests are called `evo::<row>::<case>`.

macro_rules! rows {
    ($($row:ident = $place:expr;)+) => {
        $(mod $row {
            async fn open() -> crate::connector::Place {
                $place.await
            }

            crate::connector::facts::ten_facts!(open);
            crate::connector::methods::seven_methods!(open);
            crate::connector::values::values!(open);
            crate::connector::messages::messages!(open);
            crate::connector::durable::durable!(open);
            crate::connector::ends::ends!(open);
        })+
    };
}

rows! {
    local = crate::connector::Place::local();
    memory = crate::connector::Place::memory();
    nats_2_9_25 = crate::connector::Place::nats(jetbridge_testkit::Release::Oldest);
    nats_2_15_2 = crate::connector::Place::nats(jetbridge_testkit::Release::Newest);
}
