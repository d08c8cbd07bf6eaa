//! Templates behind links, and in folders that are replaced.

use std::os::unix::fs::symlink;

use super::{Following, Rig};

impl Rig {
    fn release(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.write(&format!("{name}/t.yml"), text);
    }

    /// Follows `from`, and renders to another folder: its own file is no event of the templates'.
    fn follow(&self, from: &str) -> Following {
        std::fs::create_dir_all(self.path("out")).unwrap();
        let mut spec = self.spec();
        spec.from = vec![self.path(from)];
        spec.to = self.path("out/app.yml");
        Following::start(self.renderer(spec))
    }

    /// Waits for a file of that text: one that was read half written is rendered as well.
    async fn becomes(&self, following: &mut Following, text: &str) {
        following.written().await;
        while self.read("out/app.yml") != text {
            following.written().await;
        }
    }

    fn lead(&self, link: &str, to: &str) {
        symlink(self.path(to), self.path("link.new")).unwrap();
        std::fs::rename(self.path("link.new"), self.path(link)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_a_folder_that_leads_elsewhere_is_a_change() {
    let rig = Rig::memory();
    rig.release("releases/1", "a: 1\n");
    rig.release("releases/2", "a: 22\n");
    rig.lead("current", "releases/1");
    let mut following = rig.follow("current/t.yml");
    following.written().await;
    rig.lead("current", "releases/2");
    rig.becomes(&mut following, "a: 22\n").await;
    rig.write("releases/2/t.yml", "a: 333\n");
    rig.becomes(&mut following, "a: 333\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_behind_a_link_to_a_file_is_a_change() {
    let rig = Rig::memory();
    rig.release("elsewhere", "a: 1\n");
    std::fs::create_dir(rig.path("here")).unwrap();
    rig.lead("here/t.yml", "elsewhere/t.yml");
    let mut following = rig.follow("here/t.yml");
    following.written().await;
    rig.write("elsewhere/t.yml", "a: 22\n");
    rig.becomes(&mut following, "a: 22\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_replaced_is_watched_again() {
    let rig = Rig::memory();
    rig.release("t", "a: 1\n");
    let mut following = rig.follow("t/t.yml");
    following.written().await;
    for text in ["a: 22\n", "a: 333\n"] {
        rig.release("next", text);
        std::fs::rename(rig.path("t"), rig.path(&format!("old{}", text.len()))).unwrap();
        std::fs::rename(rig.path("next"), rig.path("t")).unwrap();
        rig.becomes(&mut following, text).await;
    }
    rig.write("t/t.yml", "a: 4444\n");
    rig.becomes(&mut following, "a: 4444\n").await;
}
