use super::records::HEAD;
use super::*;

use std::fs;
use std::path::PathBuf;
use std::task::Waker;
use std::thread;

/// A file with these records, in a directory that lives as long as the first.
fn file_with(records: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let (file, found) = DurableFile::open(&path).unwrap();
    assert_eq!(found, Found { records: 0, cut: 0 });
    for record in records {
        file.append(record).unwrap();
    }
    file.close().unwrap();
    (directory, path)
}

const RECORDS: [&[u8]; 4] = [b"first", b"", b"the third \0 one", &[0; 40]];

#[test]
fn records_are_found_again() {
    let (_directory, path) = file_with(&RECORDS);
    assert_eq!(DurableFile::read(&path).unwrap(), RECORDS);
    let (file, found) = DurableFile::open(&path).unwrap();
    assert_eq!(found, Found { records: 4, cut: 0 });
    file.append(b"fifth").unwrap();
    drop(file);
    assert_eq!(DurableFile::read(&path).unwrap().len(), 5);
}

/// A power cut may leave any beginning of what was written, with zeros or older data behind it.
#[test]
fn every_torn_tail_is_cut_off() {
    let (_directory, path) = file_with(&RECORDS);
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = RECORDS
        .iter()
        .scan(0, |end, record| {
            *end += HEAD + record.len();
            Some(*end)
        })
        .collect();
    for length in 0..=whole.len() {
        for remnant in [&b""[..], &[0; 100], &whole[..20], b"\xff\xff\xff\xff"] {
            let torn = [&whole[..length], remnant].concat();
            fs::write(&path, &torn).unwrap();
            let (file, found) = DurableFile::open(&path).unwrap();
            // What looks like the rest of the record may be the rest of the record.
            let kept = ends.iter().filter(|&&end| torn[..].starts_with(&whole[..end])).count();
            let end = if kept == 0 { 0 } else { ends[kept - 1] };
            assert_eq!(
                found,
                Found { records: kept as u64, cut: (torn.len() - end) as u64 },
                "{length} {remnant:?}"
            );
            file.append(b"next").unwrap();
            drop(file);
            let records = DurableFile::read(&path).unwrap();
            assert_eq!(records[..kept], RECORDS[..kept]);
            assert_eq!(records[kept..], [b"next"]);
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (_directory, path) = file_with(&RECORDS);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let records = DurableFile::read(&path).unwrap();
        assert!(records.len() < RECORDS.len(), "bit {bit}");
        assert_eq!(records[..], RECORDS[..records.len()], "bit {bit}");
    }
}

/// A record that was valid in another place is no record here: remains of an older file in the same blocks.
#[test]
fn a_record_of_another_place_is_none() {
    let (_directory, path) = file_with(&[b"one", b"two"]);
    let whole = fs::read(&path).unwrap();
    let second = &whole[HEAD + 3..];
    fs::write(&path, [&whole[..], second].concat()).unwrap();
    assert_eq!(DurableFile::read(&path).unwrap().len(), 2);
}

#[test]
fn nobody_else_writes_meanwhile() {
    let (_directory, path) = file_with(&[]);
    let (first, _) = DurableFile::open(&path).unwrap();
    let second = DurableFile::open(&path).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
    first.close().unwrap();
    DurableFile::open(&path).unwrap();
}

/// Until it executes its program it has all that we have, the lock of a file that is closed meanwhile included.
#[test]
fn a_child_that_is_just_being_started_does_not_keep_it_locked() {
    let (_directory, path) = file_with(&[]);
    let starter = thread::spawn(|| {
        for _ in 0..200 {
            assert!(std::process::Command::new("true").status().unwrap().success());
        }
    });
    while !starter.is_finished() {
        let (file, _) = DurableFile::open(&path).unwrap();
        file.close().unwrap();
    }
    starter.join().unwrap();
}

#[test]
fn many_write_at_once_and_nothing_is_lost_or_mixed() {
    let (_directory, path) = file_with(&[]);
    let (file, _) = DurableFile::open(&path).unwrap();
    let file = Arc::new(file);
    let writers: Vec<_> = (0..16_u32)
        .map(|writer| {
            let file = Arc::clone(&file);
            thread::spawn(move || {
                for number in 0..50_u32 {
                    let record = [writer.to_le_bytes(), number.to_le_bytes()].concat();
                    if number % 5 == 0 { file.append_buffered(&record) } else { file.append(&record) }
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    Arc::into_inner(file).unwrap().close().unwrap();
    let mut next = [0_u32; 16];
    for record in DurableFile::read(&path).unwrap() {
        let [writer, number] = [0, 4].map(|at| u32::from_le_bytes(record[at..at + 4].try_into().unwrap()));
        assert_eq!(next[writer as usize], number, "in the order of each writer");
        next[writer as usize] += 1;
    }
    assert_eq!(next, [50; 16]);
}

#[test]
fn what_is_buffered_is_written_by_whoever_flushes() {
    let (_directory, path) = file_with(&[]);
    let (file, _) = DurableFile::open(&path).unwrap();
    file.append_buffered(b"one").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "nobody has asked for it");
    file.flush().unwrap();
    assert_eq!(DurableFile::read(&path).unwrap(), [b"one"]);
    file.append_buffered(b"two").unwrap();
    file.append(b"three").unwrap();
    assert_eq!(DurableFile::read(&path).unwrap().len(), 3);
    file.append_buffered(b"four").unwrap();
    drop(file);
    assert_eq!(DurableFile::read(&path).unwrap().len(), 4, "at the latest at the end");
}

#[test]
fn a_task_that_does_not_wait_any_more_loses_nothing() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    let (_directory, path) = file_with(&[]);
    let (file, _) = DurableFile::open(&path).unwrap();
    {
        let future = pin!(file.append_async(b"one"));
        // It may be quicker than we look.
        let _ = future.poll(&mut Context::from_waker(Waker::noop()));
    }
    file.close().unwrap();
    assert_eq!(DurableFile::read(&path).unwrap(), [b"one"]);
}

/// `/dev/full` takes nothing; the first error is the last word.
#[test]
fn the_first_error_is_final() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let shared = Arc::<Shared>::default();
    let writer = thread::spawn({
        let shared = Arc::clone(&shared);
        move || Writer::new(&shared, &full, 0).run()
    });
    let file = DurableFile { shared, writer: Some(writer) };
    file.append_buffered(b"zero").unwrap();
    for _ in 0..3 {
        assert_eq!(file.append(b"one").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(file.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.append_buffered(b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.close().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_record_that_is_too_long_is_refused_and_harms_nobody() {
    let (_directory, path) = file_with(&[]);
    let (file, _) = DurableFile::open(&path).unwrap();
    let error = file.append(&vec![0; LONGEST + 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    file.append(b"short").unwrap();
    file.close().unwrap();
    assert_eq!(DurableFile::read(&path).unwrap(), [b"short"]);
}

#[test]
fn a_file_is_replaced_or_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    atomic_replace(&path, b"one").unwrap();
    atomic_replace(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left there");

    let taken = directory.path().join("directory");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("x"), "").unwrap();
    atomic_replace(&taken, b"three").unwrap_err();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nor after an error");
    assert_eq!(atomic_replace("/", b"").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// In a container the next process has the same PID, and counts from zero again.
#[test]
fn what_a_killed_process_has_left_is_not_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let left = |number| directory.path().join(format!(".state.{}.{number}.new", std::process::id()));
    for number in 0..100 {
        fs::write(left(number), "left").unwrap();
    }
    atomic_replace(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert!((0..100).all(|number| fs::read(left(number)).unwrap() == b"left"), "somebody may be writing it");
}

/// Somebody has named the wrong file.
#[test]
fn what_is_cut_off_is_kept() {
    let (directory, path) = file_with(&[b"one"]);
    let whole = fs::read(&path).unwrap();
    for _ in 0..2 {
        fs::write(&path, [&whole[..], b"precious notes\n"].concat()).unwrap();
        let (_file, found) = DurableFile::open(&path).unwrap();
        assert_eq!(found, Found { records: 1, cut: 15 });
    }
    let kept = fs::read_to_string(directory.path().join("records.cut")).unwrap();
    assert_eq!(kept, "precious notes\nprecious notes\n");
}
