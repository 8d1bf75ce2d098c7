//! What is appended comes back, in order, once, whatever happens to the files in between.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn options(directory: &Path) -> SpoolOptions {
    SpoolOptions {
        directory: directory.to_owned(),
        max_bytes: 1024 * 1024,
    }
}

fn open(directory: &Path) -> Opened {
    // The writer of a spool that was just dropped holds the directory until it has ended.
    for _ in 0..500 {
        match Spool::open(options(directory)) {
            Err(SpoolError::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(2)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the directory stays in use");
}

fn append(spool: &Spool, payloads: &[&[u8]]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for payload in payloads {
        runtime.block_on(spool.append(payload.to_vec())).unwrap();
    }
}

fn payloads(spool: &Spool) -> Vec<Vec<u8>> {
    let entries = spool.read(usize::MAX, usize::MAX / 2).unwrap();
    assert!(entries.is_sorted_by(|a, b| a.sequence < b.sequence));
    entries.into_iter().map(|entry| entry.payload).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let found = files::segments(directory).unwrap();
    found.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn what_is_appended_is_read_in_order_and_goes_with_its_release() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    assert!(spool.is_empty() && payloads(&spool).is_empty());
    append(&spool, &[b"one", b"", b"three"]);
    let entries = spool.read(2, usize::MAX / 2).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(spool.status().entries, 3);
    spool.release(&entries);
    assert_eq!(payloads(&spool), [b"three"]);
    assert_eq!(spool.status().entries, 1);
    spool.release(&spool.read(9, 9).unwrap());
    assert!(spool.is_empty());
    assert_eq!(segments(dir.path()), Vec::<PathBuf>::new());
    append(&spool, &[b"four"]);
    assert_eq!(payloads(&spool), [b"four"]);
}

#[test]
fn a_new_process_reads_on_where_the_last_one_released() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    append(&spool, &[b"one", b"two", b"three"]);
    spool.release(&spool.read(1, 1).unwrap());
    drop(spool);
    let opened = open(dir.path());
    assert_eq!(opened.set_aside, []);
    assert_eq!(opened.spool.status().entries, 2);
    assert_eq!(payloads(&opened.spool), [&b"two"[..], b"three"]);
    append(&opened.spool, &[b"four"]);
    assert_eq!(payloads(&opened.spool).len(), 3);
    drop(opened);
    // Without the position everything of the segment is read again.
    drop(open(dir.path()));
    fs::remove_file(dir.path().join("position")).unwrap();
    assert_eq!(payloads(&open(dir.path()).spool).len(), 4);
}

#[test]
fn a_position_of_another_segment_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    append(&spool, &[b"one", b"two"]);
    spool.release(&spool.read(1, 1).unwrap());
    drop(spool);
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[8] ^= 1;
    fs::write(path, bytes).unwrap();
    assert_eq!(payloads(&open(dir.path()).spool).len(), 2);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let _open = open(dir.path());
    let second = Spool::open(options(dir.path()));
    assert!(matches!(second, Err(SpoolError::InUse(_))), "{second:?}");
}

#[test]
fn it_is_full_where_its_segments_are_and_has_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut kept = 0;
    let refused = loop {
        match runtime.block_on(spool.append(vec![7; 10_000])) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SpoolError::Full), "{refused}");
    assert!(kept > 90, "{kept}");
    let taken = |dir: &Path| -> u64 {
        let lengths = segments(dir);
        lengths.iter().map(|p| fs::metadata(p).unwrap().len()).sum()
    };
    assert!(taken(dir.path()) <= 1024 * 1024);
    assert_eq!(taken(dir.path()), spool.status().bytes);
    assert!(!spool.status().has_room);
    assert!(matches!(
        runtime.block_on(spool.check()),
        Err(SpoolError::Full)
    ));
    spool.release(&spool.read(kept / 2, usize::MAX / 2).unwrap());
    assert!(spool.status().has_room);
    append(&spool, &[b"more"]);
    assert_eq!(payloads(&spool).len(), kept - kept / 2 + 1);
    drop(spool);
    assert_eq!(payloads(&open(dir.path()).spool).len(), kept - kept / 2 + 1);
}

#[test]
fn a_directory_that_is_gone_is_an_error_and_its_return_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("spool");
    let spool = open(&place).spool;
    append(&spool, &[b"one"]);
    spool.release(&spool.read(1, 1).unwrap());
    fs::rename(&place, dir.path().join("moved")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let lost = runtime.block_on(spool.append(b"two".to_vec()));
    assert!(matches!(lost, Err(SpoolError::Failed(_))), "{lost:?}");
    assert!(spool.status().failing.is_some());
    assert!(runtime.block_on(spool.check()).is_err());
    fs::rename(dir.path().join("moved"), &place).unwrap();
    runtime.block_on(spool.check()).unwrap();
    append(&spool, &[b"three"]);
    assert_eq!(spool.status().failing, None);
    assert_eq!(payloads(&spool), [b"three"]);
}

#[test]
fn many_appends_share_an_fsync_and_all_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..5_000_u32 {
            let spool = spool.clone();
            tasks.spawn(async move { spool.append(number.to_le_bytes().to_vec()).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
    });
    let mut numbers: Vec<u32> = payloads(&spool)
        .into_iter()
        .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..5_000));
}

#[test]
fn inspecting_changes_nothing_and_needs_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    append(&spool, &[b"one", b"two", b"three"]);
    spool.release(&spool.read(1, 1).unwrap());
    let seen = inspect(dir.path()).unwrap();
    let kept: Vec<_> = seen
        .records
        .iter()
        .map(|(_, _, payload)| &payload[..])
        .collect();
    assert_eq!(kept, [&b"two"[..], b"three"]);
    assert_eq!((seen.segments, seen.damaged, seen.set_aside), (1, 0, 0));
    assert_eq!(seen.bytes, spool.status().bytes);
    assert_eq!(payloads(&spool).len(), 2);
}

#[test]
fn damage_under_a_running_process_is_passed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    append(&spool, &[b"one", b"two", b"three"]);
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[format::HEADER + 30 % format::record_len(3)] ^= 0x40;
    bytes[format::HEADER + format::record_len(3) - 1] ^= 0x40;
    fs::write(path, bytes).unwrap();
    assert_eq!(payloads(&spool), [&b"two"[..], b"three"]);
    assert_eq!(spool.status().set_aside, format::record_len(3) as u64);
    spool.release(&spool.read(9, usize::MAX / 2).unwrap());
    assert!(spool.is_empty());
    assert_eq!(spool.status().entries, 0);
}

/// A spool with records of these lengths, closed; gives their payloads.
fn filled(directory: &Path, lengths: &[usize]) -> Vec<Vec<u8>> {
    let spool = open(directory).spool;
    let payloads: Vec<Vec<u8>> = lengths
        .iter()
        .enumerate()
        .map(|(index, length)| vec![u8::try_from(index % 251).unwrap(); *length])
        .collect();
    let slices: Vec<&[u8]> = payloads.iter().map(|payload| &payload[..]).collect();
    append(&spool, &slices);
    payloads
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_torn_tail_costs_only_what_it_tore(
        lengths in prop::collection::vec(0_usize..300, 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let payloads_before = filled(dir.path(), &lengths);
        let path = &segments(dir.path())[0];
        let bytes = fs::read(path).unwrap();
        let cut = cut.index(bytes.len());
        fs::write(path, &bytes[..cut]).unwrap();
        let mut end = format::HEADER;
        let whole = lengths.iter().take_while(|length| {
            end += format::record_len(**length);
            end <= cut
        }).count();
        let opened = open(dir.path());
        prop_assert_eq!(payloads(&opened.spool), &payloads_before[..whole]);
        let aside: u64 = opened.set_aside.iter().map(|aside| aside.bytes).sum();
        let used = format::HEADER + lengths[..whole].iter().map(|l| format::record_len(*l)).sum::<usize>();
        if cut > format::HEADER {
            prop_assert_eq!(aside, (cut - used) as u64);
        }
        // It goes on as if nothing had been.
        append(&opened.spool, &[b"after"]);
        drop(opened);
        let again = open(dir.path());
        prop_assert_eq!(again.set_aside.len(), 0);
        prop_assert_eq!(payloads(&again.spool).len(), whole + 1);
    }

    #[test]
    fn a_damaged_record_costs_only_itself(
        lengths in prop::collection::vec(0_usize..300, 1..12),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let before = filled(dir.path(), &lengths);
        let path = &segments(dir.path())[0];
        let mut bytes = fs::read(path).unwrap();
        let at = format::HEADER + at.index(bytes.len() - format::HEADER);
        bytes[at] ^= 1 << bit;
        fs::write(path, &bytes).unwrap();
        let mut end = format::HEADER;
        let hit = lengths.iter().take_while(|length| {
            end += format::record_len(**length);
            end <= at
        }).count();
        let opened = open(dir.path());
        let mut expected = before;
        expected.remove(hit);
        prop_assert_eq!(payloads(&opened.spool), expected.clone());
        prop_assert_eq!(opened.set_aside.len(), 1);
        drop(opened);
        let again = open(dir.path());
        prop_assert_eq!(again.set_aside.len(), 0);
        prop_assert_eq!(payloads(&again.spool), expected);
    }

    #[test]
    fn records_are_released_once_over_restarts_and_segments(
        steps in prop::collection::vec((1_usize..40, 0_usize..40, any::<bool>()), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path()).spool;
        let mut model = std::collections::VecDeque::new();
        let mut number = 0_u32;
        for (appends, releases, restart) in steps {
            for _ in 0..appends {
                let mut payload = vec![0; 5_000];
                payload[..4].copy_from_slice(&number.to_le_bytes());
                number += 1;
                // Over the bound nothing is kept.
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                if runtime.block_on(spool.append(payload.clone())).is_ok() {
                    model.push_back(payload);
                }
            }
            let entries = spool.read(releases, usize::MAX / 2).unwrap();
            spool.release(&entries);
            model.drain(..releases.min(model.len()));
            if restart {
                drop(spool);
                spool = open(dir.path()).spool;
            }
            prop_assert_eq!(spool.status().entries, model.len() as u64);
            prop_assert_eq!(payloads(&spool), model.iter().cloned().collect::<Vec<_>>());
        }
    }
}

#[test]
fn it_knows_whether_earlier_ones_are_still_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).spool;
    assert!(!spool.holds_below(spool.mark()));
    append(&spool, &[b"a", b"b", b"c"]);
    let mark = spool.mark();
    append(&spool, &[b"d"]);
    drop(spool);
    let spool = open(dir.path()).spool;
    assert!(spool.holds_below(mark), "also after a restart");
    spool.release(&spool.read(2, 1000).unwrap());
    assert!(spool.holds_below(mark));
    spool.release(&spool.read(1, 1000).unwrap());
    assert!(!spool.holds_below(mark) && spool.holds_below(spool.mark()));
    spool.release(&spool.read(1, 1000).unwrap());
    assert!(!spool.holds_below(spool.mark()));
}
