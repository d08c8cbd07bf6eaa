//! `stream`, `pub`, `sub`, `req` and `reply`.

use super::*;

#[tokio::test]
async fn a_stream_keeps_what_is_published() {
    let terminal = Terminal::new();
    terminal.does("stream add S --subjects a.>,b --max-age 1h --retention limits").await;
    assert_eq!(terminal.does("pub a.x hello -J").await, "stream S, sequence 1\n");
    assert_eq!(terminal.does("pub b world -J --id 7").await, "stream S, sequence 2\n");
    let twice = terminal.json("pub b world -J --id 7").await;
    assert_eq!((&twice["duplicate"], &twice["stream"]), (&true.into(), &"S".into()));
    assert_eq!(terminal.does("stream get S 1").await, "hello");
    assert_eq!(terminal.denies("stream get S 9").await, "no message `9` in `S`\n");
    let lines = terminal.does("stream view S").await;
    let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!((words[0][0], words[0][2], words[0][3]), ("1", "a.x", "hello"));
    assert_eq!(terminal.does("stream view S --from 2 --raw").await, "world\n");
    assert_eq!(terminal.does("stream view S --subject a.* --raw").await, "hello\n");
    let json = terminal.json("stream info S").await;
    assert_eq!((&json["messages"], &json["settings"]["subjects"][1]), (&2.into(), &"b".into()));
    assert_eq!(terminal.does("stream purge S --subject b").await, "1\n");
    assert_eq!(terminal.does("stream ls -n").await, "S\n");
    assert!(terminal.does("stream ls").await.starts_with("STREAM  SUBJECTS  MESSAGES"));
    let edited = terminal.json("stream edit S --max-age never --max-msgs 10").await;
    assert_eq!(edited["settings"]["max_msgs"], 10);
    assert!(edited["settings"].get("max_age_ms").is_none());
    terminal.does("stream rm S").await;
    assert_eq!(terminal.fails("stream rm S").await, ErrorKind::NotFound);
    assert_eq!(terminal.does("stream rm S -f").await, "");
    assert_eq!(terminal.fails("pub a.x hello -J").await, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_subscriber_prints_until_it_has_enough() {
    let terminal = Terminal::new();
    let listen = terminal.run("sub a.* --count 2");
    let publish = async {
        let said = terminal.run("pub a.b hi").await;
        assert_eq!((said.out.as_str(), said.err.as_str()), ("", "published 2 bytes on a.b\n"));
        terminal.does("pub a.c there -q").await;
    };
    let (said, ()) = tokio::join!(listen, publish);
    assert_eq!(said.out, "a.b hi\na.c there\n");
    assert_eq!((said.err.as_str(), said.ended.unwrap()), ("listening on a.*\n", Status::Done));
}

#[tokio::test]
async fn a_message_in_json_has_everything() {
    let terminal = Terminal::new();
    let (said, published) = tokio::join!(
        terminal.run("sub a --count 3 --json"),
        terminal.json("pub a hi -H K:v --reply r --count 3"),
    );
    assert_eq!(published["published"], 3);
    assert_eq!(said.out.lines().count(), 3);
    assert_eq!(
        said.out.lines().next().unwrap(),
        r#"{"subject":"a","reply":"r","headers":{"K":["v"]},"payload":"hi"}"#
    );
}

#[tokio::test]
async fn requests_are_answered() {
    let terminal = Terminal::new();
    for (reply, answer) in [
        ("reply q pong --count 1", "pong"),
        ("reply q --echo --count 1", "ping"),
        ("reply q --command cat --count 1", "ping"),
        ("reply q --command=printf${IFS}$NATS_REQUEST_SUBJECT --count 1", "q"),
    ] {
        let (said, got) = tokio::join!(terminal.run(reply), terminal.does("req q ping"));
        assert_eq!(said.ended.unwrap(), Status::Done, "{reply}");
        assert_eq!(got, answer, "{reply}");
    }
}

#[tokio::test]
async fn a_failing_command_tells_the_one_who_asked() {
    let terminal = Terminal::new();
    let (_said, got) =
        tokio::join!(terminal.run("reply q --command false --count 1"), terminal.run("req q ping"));
    assert_eq!(got.ended.unwrap(), Status::No);
    assert!(got.err.starts_with("the responder failed: 500 "), "{}", got.err);
    assert_eq!(terminal.fails("req q ping").await, ErrorKind::Unavailable);
}
