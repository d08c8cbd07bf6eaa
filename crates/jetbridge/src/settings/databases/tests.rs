use jetbridge_core::ErrorKind;

use super::*;
use crate::settings::parse_yaml;

fn read(yaml: &str) -> Result<Databases> {
    Databases::read(&parse_yaml("litestream.yml", yaml).unwrap(), &Environment::default())
}

fn one(replica: &str) -> ReplicaSpec {
    let yaml = format!("dbs:\n  - path: /data/app.db\n    replica: {replica}\n");
    let databases = read(&yaml).unwrap();
    assert!(databases.warnings.is_empty(), "{:?}", databases.warnings);
    databases.list[0].replica.clone()
}

#[test]
fn bucket_and_path_stand_in_the_url_or_beside_it() {
    for (replica, bucket, path) in [
        ("{type: nats, url: 'nats://h:4222', bucket: b}", "b", ""),
        ("{url: 'nats://h:4222/b'}", "b", ""),
        ("{url: 'nats://h:4222/b/x/y'}", "b", "x/y"),
        ("{url: 'nats://h:4222/', bucket: b, path: /apps/one/}", "b", "apps/one"),
        ("{url: 'nats://h:4222/other', bucket: b}", "other", ""),
        ("nats://h:4222/b/x", "b", "x"),
        ("{url: 'nats://a:4222,nats://b:4222', bucket: b}", "b", ""),
    ] {
        let spec = one(replica);
        assert_eq!((spec.bucket.as_str(), spec.path.as_str()), (bucket, path), "{replica}");
        assert!(spec.server.is_some());
    }
    assert_eq!(one("{type: nats, bucket: b}").server, None);
}

#[test]
fn settings_at_the_top_hold_for_every_replica() {
    let yaml = "username: u\nurl: nats://h:4222\npassword: p\nsnapshot: {interval: 12h}\n\
                levels: [{interval: 10s}]\nl0-retention: 0s\nretention: {enabled: false}\n\
                dbs:\n  - {path: a.db, replica: {bucket: b}}\n  \
                - {dir: /d, pattern: '*.db', watch: true, replica: {bucket: b, path: p}}\n";
    let databases = read(yaml).unwrap();
    assert_eq!(databases.list.len(), 2);
    assert!(databases.list.iter().all(|spec| spec.replica.server.is_some()));
    let upkeep = &databases.upkeep;
    assert_eq!(upkeep.levels, [Duration::from_secs(10)]);
    assert_eq!(upkeep.snapshot_interval, Duration::from_secs(12 * 3600));
    assert_eq!((upkeep.captured_retention, upkeep.deletes), (Duration::ZERO, false));
    assert_eq!(databases.find("./a.db", &Environment::default()).unwrap().replica.path, "");
}

#[test]
fn snapshots_without_a_pause_are_refused() {
    let yaml = "snapshot: {interval: 0s}\ndbs:\n  \
                - {path: a.db, replica: {url: 'nats://h/b'}}\n";
    let error = read(yaml).unwrap_err().to_string();
    assert!(error.contains("`snapshot.interval` must be more than 0"), "{error}");
}

#[test]
fn reconnecting_goes_on_for_ever_unless_a_number_is_written() {
    let server = |replica: &str| one(replica).server.unwrap().reconnects_max;
    assert_eq!(server("{url: 'nats://h/b'}"), None);
    assert_eq!(server("{url: 'nats://h/b', max-reconnects: 5}"), Some(5));
    assert_eq!(server("{url: 'nats://h/b', max-reconnects: -1}"), None);
}

#[test]
fn what_does_nothing_is_said() {
    let yaml = "mcp-addr: ':1'\nsyncinterval: 1s\ndbs:\n  - path: a.db\n    \
                checkpoint-intervall: 1m\n    \
                replica: {url: 'nats://h/b', sync-interval: 1s, bukket: x}\n";
    let warnings = read(yaml).unwrap().warnings;
    let said = warnings.join("\n");
    for part in [
        "1:1: `mcp-addr` has no effect here",
        "2:1: unknown key `syncinterval` is passed over",
        "unknown key `checkpoint-intervall` is passed over; did you mean `checkpoint-interval`?",
        "`sync-interval` has no effect here",
        "unknown key `bukket` is passed over; did you mean `bucket`?",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (yaml, kind, part) in [
        ("dbs: [{path: a, replica: {url: 's3://b/x'}}]", ErrorKind::Unsupported, "`s3`"),
        ("dbs: [{path: a, replica: {type: file, path: /x}}]", ErrorKind::Unsupported, "`file`"),
        (
            "dbs: [{path: a, replica: {url: 'nats://h'}}]",
            ErrorKind::InvalidInput,
            "bucket required",
        ),
        ("dbs: [{path: a}]", ErrorKind::InvalidInput, "no `replica`"),
        ("dbs: [{replica: {bucket: b}}]", ErrorKind::InvalidInput, "`path` or a `dir`"),
        ("dbs: [{dir: d, replica: {bucket: b}}]", ErrorKind::InvalidInput, "`pattern`"),
        (
            "dbs: [{path: a, replicas: [{bucket: b}, {bucket: c}]}]",
            ErrorKind::InvalidInput,
            "multiple replicas",
        ),
        ("levels: []", ErrorKind::InvalidInput, "`levels`"),
        ("dbs: {}", ErrorKind::InvalidInput, "`dbs` is a list"),
    ] {
        let error = read(yaml).unwrap_err();
        assert_eq!(error.kind(), kind, "{yaml}: {error}");
        assert!(error.to_string().contains(part), "{yaml}: {error}");
    }
}

#[test]
fn every_block_of_the_guide_is_read() {
    // As printed on Litestream's page about NATS; files that a block names are not there.
    let extras = ["", "username: litestream\n      password: secret", "token: t0k3n", "tls: true"];
    for extra in extras {
        let yaml = format!(
            "dbs:\n  - path: /data/app.db\n    replica:\n      type: nats\n      \
             url: nats://nats.example.com:4222\n      bucket: litestream-backups\n      {extra}\n"
        );
        let databases = read(&yaml).unwrap();
        assert_eq!(databases.list[0].replica.bucket.as_str(), "litestream-backups");
        assert!(databases.warnings.is_empty(), "{:?}", databases.warnings);
    }
    let cluster = "nats://nats1.example.com:4222,nats://nats2.example.com:4222,\
                   nats://nats3.example.com:4222";
    let spec = one(&format!("{{type: nats, url: '{cluster}', bucket: backups}}"));
    assert_eq!(spec.server.unwrap().servers.len(), 3);
}
