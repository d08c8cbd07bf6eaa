//! A replica in a directory: one LTX file for each delta, replayed by nothing but their pages.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use jetbridge_core::{Error, ErrorKind, Result};
use jetbridge_sqlite::capture::{Delta, Head, Page, Pages, Scope, Touched, Uplink};
use jetbridge_sqlite::{Pgno, Txid, TxidRange, ltx};

/// What goes wrong with a delta.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is refused.
    Refused,
    /// It is durable, and the answer is lost.
    AnswerLost,
    /// Somebody else writes to the replica.
    Conflict,
    /// Nothing happens for so long.
    Late(Duration),
}

#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    faults: Mutex<VecDeque<Fault>>,
}

struct Stored {
    txid: Txid,
    base: bool,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        Self { dir: dir.to_owned(), faults: Mutex::default() }
    }

    /// The next deltas meet these.
    pub(crate) fn will(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// How many deltas it was given, and how many of them were bases.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let files = self.files();
        (files.len(), files.iter().filter(|file| file.base).count())
    }

    /// The number of pages of each delta after `after`.
    pub(crate) fn sizes_after(&self, after: Txid) -> Vec<usize> {
        let files = self.files();
        let later = files.iter().filter(|file| file.txid > after);
        later.map(|file| read(&file.path).1.len()).collect()
    }

    /// Writes the database that the files make to `output`.
    pub(crate) fn restore(&self, output: &Path) -> Txid {
        let files = self.files();
        let base = files.iter().rposition(|file| file.base).expect("there is a base");
        let database = File::create(output).unwrap();
        let mut txid = files[base].txid;
        for (place, file) in files[base..].iter().enumerate() {
            assert_eq!(file.txid.0, files[base].txid.0 + place as u64, "a gap");
            let (header, pages) = read(&file.path);
            let bytes = u64::from(header.commit) * u64::from(header.page_size.get());
            database.set_len(bytes).unwrap();
            for page in pages {
                database.write_all_at(&page.data, header.page_size.offset_of(page.pgno)).unwrap();
            }
            txid = file.txid;
        }
        txid
    }

    /// Makes one base of all but the newest `keep` files; nobody may write meanwhile.
    pub(crate) fn thin(&self, keep: usize, scratch: &Path) {
        let files = self.files();
        let Some(last) = files.len().checked_sub(keep + 1) else { return };
        let aside = Self::new(&self.dir.join("aside"));
        for file in &files[..=last] {
            let name = file.path.file_name().unwrap();
            fs::rename(&file.path, aside.dir.join(name)).unwrap();
        }
        let txid = aside.restore(scratch);
        let header = ltx::Header { wal: None, ..read(&aside.files()[last].path).0 };
        let size = header.page_size;
        let path = self.dir.join(format!("{txid}.base.ltx"));
        let mut encoder =
            ltx::Encoder::new(BufWriter::new(File::create(&path).unwrap()), header).unwrap();
        for (pgno, page) in (1..).zip(fs::read(scratch).unwrap().chunks(size.bytes())) {
            encoder.page(pgno, page).unwrap();
        }
        drop(encoder.finish().unwrap());
        fs::remove_dir_all(&aside.dir).unwrap();
    }

    fn files(&self) -> Vec<Stored> {
        let mut files: Vec<_> = fs::read_dir(&self.dir)
            .unwrap()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name()?.to_str()?.to_owned();
                let (txid, kind) = name.strip_suffix(".ltx")?.split_once('.')?;
                Some(Stored { txid: Txid::parse(txid).unwrap(), base: kind == "base", path })
            })
            .collect();
        files.sort_by_key(|file| file.txid);
        files
    }

    async fn store(&self, delta: Delta) -> Result<()> {
        let base = delta.scope == Scope::Base;
        let range = TxidRange::one(delta.txid).unwrap();
        let since = delta.time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let header = ltx::Header {
            page_size: delta.page_size,
            commit: delta.commit,
            range,
            timestamp_ms: i64::try_from(since.as_millis()).unwrap(),
            wal: delta.wal,
        };
        let part = self.dir.join(format!("{}.part", delta.txid));
        let mut encoder = ltx::Encoder::new(BufWriter::new(File::create(&part).unwrap()), header)?;
        let mut last = 0;
        let mut add = |page: Page| -> Result<()> {
            if base {
                let lock_page = delta.page_size.lock_page();
                let next = if last + 1 == lock_page { last + 2 } else { last + 1 };
                assert_eq!(page.pgno, next, "a base has every page");
            }
            last = page.pgno;
            encoder.page(page.pgno, &page.data)
        };
        match delta.pages {
            Pages::Held(pages) => pages.iter().cloned().try_for_each(&mut add)?,
            Pages::Streamed(mut pages) => {
                while let Some(page) = pages.next().await {
                    add(page?)?;
                }
            }
        }
        assert!(!base || last == delta.commit || last + 1 == delta.page_size.lock_page());
        drop(encoder.finish()?);
        let kind = if base { "base" } else { "change" };
        fs::rename(&part, self.dir.join(format!("{}.{kind}.ltx", delta.txid))).unwrap();
        Ok(())
    }
}

fn read(path: &Path) -> (ltx::Header, Vec<Page>) {
    let mut decoder = ltx::Decoder::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let header = *decoder.header();
    let mut pages = Vec::new();
    let mut data = vec![0; header.page_size.bytes()];
    while let Some(pgno) = decoder.page(&mut data).unwrap() {
        pages.push(Page { pgno, data: data.clone().into() });
    }
    (header, pages)
}

#[async_trait]
impl Uplink for Folder {
    fn identity(&self) -> String {
        self.dir.display().to_string()
    }

    async fn head(&self) -> Result<Option<Head>> {
        Ok(self.files().last().map(|file| {
            let (header, _) = read(&file.path);
            let time = header.time();
            Head { txid: file.txid, page_size: header.page_size, wal: header.wal, time }
        }))
    }

    async fn touched_since(&self, after: Txid) -> Result<Touched> {
        let mut pages: Vec<Pgno> = Vec::new();
        let mut fewest = None;
        for file in self.files().iter().filter(|file| file.txid > after) {
            let (header, held) = read(&file.path);
            pages.extend(held.iter().map(|page| page.pgno));
            fewest = Some(fewest.map_or(header.commit, |it: Pgno| it.min(header.commit)));
        }
        Ok(Touched { pages, fewest })
    }

    async fn image(&self, path: &Path) -> Result<Option<Txid>> {
        Ok(Some(self.restore(path)))
    }

    async fn ship(&self, delta: Delta) -> Result<Txid> {
        let head = self.files().last().map_or(Txid::NONE, |file| file.txid);
        let txid = delta.txid;
        assert!(txid == head.next() || txid == head, "{txid} after {head}");
        let fault = self.faults.lock().unwrap().pop_front();
        let failed = |kind| Err(Error::new(kind, "folder.ship").because("a fault of the test"));
        match fault {
            Some(Fault::Refused) => return failed(ErrorKind::Unavailable),
            Some(Fault::Conflict) => return failed(ErrorKind::Conflict),
            Some(Fault::Late(wait)) => tokio::time::sleep(wait).await,
            Some(Fault::AnswerLost) | None => {}
        }
        self.store(delta).await?;
        match fault {
            Some(Fault::AnswerLost) => failed(ErrorKind::Unavailable),
            _ => Ok(txid),
        }
    }
}
