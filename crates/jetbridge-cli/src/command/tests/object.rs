//! `object`.

use std::path::PathBuf;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.into_os_string().into_string().unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

async fn with_bucket() -> (Terminal, Files) {
    let terminal = Terminal::new();
    terminal.does("object add b").await;
    (terminal, Files::new())
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out() {
    let (terminal, files) = with_bucket().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let path = files.write("in", &bytes);
    assert_eq!(
        terminal.does(&format!("object put b {path} --name n")).await,
        "n, 3000000 bytes, revision 1\n"
    );
    let out = files.path("out");
    let said = terminal.run(&format!("obj get b n -o {out}")).await;
    assert_eq!((said.out.as_str(), said.ended.unwrap()), ("", Status::Done));
    assert_eq!(said.err, format!("wrote 3000000 bytes to {out}\n"));
    assert_eq!(std::fs::read(out).unwrap(), bytes);
}

#[tokio::test]
async fn text_comes_out_on_stdout_whole_in_part_and_as_json() {
    let (terminal, files) = with_bucket().await;
    let path = files.write("in", b"0123456789");
    terminal.does(&format!("object put b n --file {path} -H A:1 --description text")).await;
    assert_eq!(terminal.does("object get b n").await, "0123456789");
    assert_eq!(terminal.does("object get b n -o -").await, "0123456789");
    assert_eq!(terminal.does("object get b n --offset 3 --length 2").await, "34");
    assert_eq!(terminal.does("object get b n --offset 8 --length 9").await, "89");
    assert_eq!(terminal.fails("object get b n --offset 11").await, ErrorKind::InvalidInput);
    let json = terminal.json("object get b n").await;
    assert_eq!((&json["body"], &json["size"]), (&"0123456789".into(), &10.into()));
    let stat = terminal.json("object stat b n").await;
    assert_eq!((&stat["headers"]["A"][0], &stat["description"]), (&"1".into(), &"text".into()));
    assert!(stat["digest"].as_str().unwrap().starts_with("SHA-256="));
    assert!(terminal.does("object info b n").await.starts_with("object          n\n"));
}

#[tokio::test]
async fn conditions_hold_or_conflict() {
    let (terminal, files) = with_bucket().await;
    let path = files.write("in", b"x");
    let put = format!("object put b {path} --name n");
    terminal.does(&format!("{put} --if-absent")).await;
    assert_eq!(terminal.fails(&format!("{put} --if-absent")).await, ErrorKind::Conflict);
    assert_eq!(terminal.fails(&format!("{put} --revision 99")).await, ErrorKind::Conflict);
    let stat = terminal.json("object stat b n").await;
    terminal.does(&format!("{put} --revision {}", stat["revision"])).await;
}

#[tokio::test]
async fn what_is_not_there_is_a_no_and_leaves_no_file() {
    let (terminal, files) = with_bucket().await;
    let out = files.path("out");
    for line in ["object stat b n", "object get b n", "object del b n", "object rm b n"] {
        assert_eq!(terminal.denies(line).await, "no object `n` in `b`\n", "{line}");
    }
    terminal.denies(&format!("object get b n -o {out}")).await;
    assert!(!std::path::Path::new(&out).exists());
    assert_eq!(terminal.does("object del b n -f").await, "");
    assert_eq!(terminal.fails("object get none n").await, ErrorKind::NotFound);
    let put = format!("object put b {}", files.path("none"));
    assert_eq!(terminal.fails(&put).await, ErrorKind::InvalidInput);
}

#[tokio::test]
async fn objects_are_listed_watched_linked_and_deleted() {
    let (terminal, files) = with_bucket().await;
    let path = files.write("in", b"text");
    for name in ["a", "b"] {
        terminal.does(&format!("object put b {path} --name {name}")).await;
    }
    assert_eq!(terminal.does("object ls b --names").await, "a\nb\n");
    let table = terminal.does("object ls b").await;
    assert!(table.starts_with("OBJECT  SIZE  MODIFIED\na       4 B   2"), "{table}");
    let changes = terminal.does("object watch b --count 2 --json").await;
    let first: serde_json::Value = serde_json::from_str(changes.lines().next().unwrap()).unwrap();
    assert_eq!((&first["change"], &first["name"]), (&"put".into(), &"a".into()));
    assert_eq!(terminal.json("object link b l a").await["link"]["name"], "a");
    assert_eq!(terminal.does("object get b l").await, "text");
    terminal.does("object del b a b l").await;
    assert_eq!(terminal.does("object ls b").await, "");
}

#[tokio::test]
async fn a_sealed_bucket_takes_nothing_more() {
    let (terminal, files) = with_bucket().await;
    let path = files.write("in", b"x");
    assert_eq!(terminal.json("object seal b").await["sealed"], true);
    let put = format!("object put b {path} --name n");
    assert_eq!(terminal.fails(&put).await, ErrorKind::InvalidInput);
    assert!(terminal.does("object status b").await.contains("sealed          yes\n"));
}
