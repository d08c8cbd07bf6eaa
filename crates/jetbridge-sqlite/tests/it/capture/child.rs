//! What the real processes of these tests do.

use jetbridge_testkit::process::{Roles, play};

use super::{followed, full, killed, rebased, refusals};

/// The test below.
pub(crate) const ROLES: Roles = Roles::of("capture::child::role");

/// Not a test of its own: what each of the processes runs.
#[test]
fn role() {
    play(async |role, directory| match role {
        "replicate" => killed::replicate(directory).await,
        "replicate_nats" => killed::replicate_nats(directory).await,
        "replicate_to_a_point" => rebased::replicate_to_a_point(directory).await,
        "write" => killed::write(directory),
        "follow" => followed::follow(directory).await,
        "read" => followed::read(directory),
        "full_state" => full::state(directory).await,
        "full_output" => full::output(directory).await,
        "full_follow" => full::follow(directory).await,
        "refused" => refusals::refused(directory).await,
        other => panic!("there is no role {other}"),
    });
}
