//! What the real processes of these tests do.

use jetbridge_testkit::process::{Roles, play};

use crate::{durability, golden, local_3_processes, processes, refusals};

/// The test below.
pub(crate) const ROLES: Roles = Roles::of("child::role");

/// Not a test of its own: what each of the processes runs.
#[test]
fn role() {
    play(async |role, directory| match role {
        "neighbour" => local_3_processes::neighbour(directory).await,
        "increment" => processes::increment(directory).await,
        "write" => processes::write(directory).await,
        "write_in_full" => durability::write_in_full(directory).await,
        "golden" => golden::write(directory).await,
        "open" => refusals::try_to_open(directory).await,
        other => panic!("there is no role {other}"),
    });
}
