//! Processes that read what strangers write: they take one request from standard input, and say what came of it.
//! `evenkeel __fetch` is the one that fetches; `apart` has the one that verifies.

use std::{
    io::{BufRead as _, Read as _, Write as _},
    path::Path,
    process::ExitCode,
    thread,
};

use evenkeel_core::id::CommitId;
use gix::{bstr::ByteSlice as _, protocol::handshake::Ref};
use rustix::process::{Resource, Rlimit, Signal, kill_current_process_group, setrlimit};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::one_line,
    link,
    mirror::VERB,
    repo::{OVERRIDES, Repo},
    wire::{Answer, Request},
};

/// Longest request, in bytes.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// Most memory that the fetch may map, in bytes: packs are mapped whole.
const MAX_MEMORY_BYTES: u64 = 8 << 30;
/// Most memory that it may fill, in bytes: what is not the mapping of a file.
pub(super) const MAX_HEAP_BYTES: u64 = 512 << 20;
/// Largest file that the fetch may write, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Fetches. The exit code says only whether there is an answer.
pub fn main() -> ExitCode {
    serve(VERB, MAX_FILE_BYTES, |request: Request| {
        // Fails only if a provider is there already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        run(&request).unwrap_or_else(|answer| answer)
    })
}

/// Runs a hidden verb: one request in, one answer out, within limits.
pub(super) fn serve<Q: DeserializeOwned, A: Serialize>(
    verb: &str,
    max_file_bytes: u64,
    answer: impl FnOnce(Q) -> A,
) -> ExitCode {
    if rustix::process::getpgrp() != rustix::process::getpid() {
        eprintln!("evenkeel {verb}: this is not for people: it needs a process group of its own");
        return ExitCode::FAILURE;
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_REQUEST_BYTES).read_line(&mut line);
    // The error is not printed whole: it could quote the token.
    let request: Q = match read.map_err(|e| e.to_string()).and_then(|_| {
        serde_json::from_str(&line).map_err(|e| format!("the request is damaged in column {}", e.column()))
    }) {
        Ok(request) => request,
        Err(why) => {
            eprintln!("evenkeel {verb}: {why}");
            return ExitCode::FAILURE;
        }
    };
    thread::spawn(end_with_the_agent);
    limit(max_file_bytes);
    match serde_json::to_string(&answer(request)).map(|text| writeln!(std::io::stdout(), "{text}")) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Waits until the agent closes our standard input, or is gone, and ends this process and its helpers. Not by the
/// kernel's parent-death signal: that one follows the thread that started us, and the agent's threads come and go.
fn end_with_the_agent() {
    let mut byte = [0];
    while matches!(std::io::stdin().lock().read(&mut byte), Ok(1..)) {}
    let _ = kill_current_process_group(Signal::KILL);
}

/// Bounds what a hostile server can make us use. A limit that cannot be set is none.
fn limit(max_file_bytes: u64) {
    let to = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let _ = setrlimit(Resource::As, to(MAX_MEMORY_BYTES));
    let _ = setrlimit(Resource::Fsize, to(max_file_bytes));
    let _ = setrlimit(Resource::Data, to(MAX_HEAP_BYTES));
    let _ = setrlimit(Resource::Core, to(0));
}

/// A mirror that turns out to be damaged is thrown away, once: everything in it can be fetched again.
fn run(request: &Request) -> Result<Answer, Answer> {
    sweep(&request.mirror);
    if is_redirected(&request.mirror) {
        discard(&request.mirror)?;
    }
    let fresh = !request.mirror.exists();
    match fetch(request) {
        Err(Answer::Mirror(_) | Answer::Incomplete(_)) if !fresh => {
            discard(&request.mirror)?;
            fetch(request)
        }
        other => other,
    }
}

fn fetch(request: &Request) -> Result<Answer, Answer> {
    let mut repo = open(&request.mirror, None)?;
    let (tip, hash) = advertised(&repo, request)?;
    if repo.object_hash() != hash {
        drop(repo);
        discard(&request.mirror)?;
        repo = open(&request.mirror, Some(hash))?;
    }
    let commit = CommitId::new(&tip.to_string()).map_err(|e| Answer::Invalid(e.to_string()))?;
    if !has(&request.mirror, &commit)? {
        link::receive(&repo, request)?;
        if !has(&request.mirror, &commit)? {
            return Err(Answer::Incomplete(format!("it did not send the commit {} that it names", commit.short())));
        }
    }
    Ok(Answer::Tip(commit))
}

/// Whether the mirror has the commit and the root of its tree, undamaged.
fn has(mirror: &Path, commit: &CommitId) -> Result<bool, Answer> {
    let repo = Repo::open(mirror).map_err(|e| Answer::Mirror(e.to_string()))?;
    Ok(repo.tree(commit).is_ok_and(|tree| tree.has_root()))
}

/// Opens the mirror, or makes it.
fn open(mirror: &Path, hash: Option<gix::hash::Kind>) -> Result<gix::Repository, Answer> {
    let options = gix::open::Options::isolated().config_overrides(OVERRIDES);
    let fail = |e: gix::Error| if link::is_full(&e) { Answer::Full } else { Answer::Mirror(one_line(&e)) };
    let repo = if mirror.exists() {
        gix::ThreadSafeRepository::open_opts(mirror, options).map_err(fail)?
    } else {
        std::fs::create_dir_all(mirror).map_err(|e| match e.kind() {
            std::io::ErrorKind::StorageFull => Answer::Full,
            _ => Answer::Mirror(e.to_string()),
        })?;
        let create = gix::create::Options { object_hash: hash, ..Default::default() };
        gix::ThreadSafeRepository::init_opts(mirror, gix::create::Kind::Bare, create, options).map_err(fail)?
    };
    Ok(repo.to_thread_local())
}

fn discard(mirror: &Path) -> Result<(), Answer> {
    std::fs::remove_dir_all(mirror).map_err(|e| Answer::Mirror(format!("it cannot be removed: {e}")))
}

/// Whether the mirror's history is cut off, borrowed or replaced: no fetch of ours makes it so.
fn is_redirected(mirror: &Path) -> bool {
    mirror.exists() && Repo::open(mirror).is_ok_and(|repo| matches!(repo.incomplete(), Ok(Some(_))))
}

/// Removes what a killed fetch left behind. Nobody else writes there: there is one agent a state folder.
fn sweep(mirror: &Path) {
    let Ok(entries) = std::fs::read_dir(mirror.join("objects/pack")) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Asks the server where the ref is: one ref advertisement.
fn advertised(repo: &gix::Repository, request: &Request) -> Result<(gix::ObjectId, gix::hash::Kind), Answer> {
    let map = link::ref_map(repo, request, true)?;
    let wanted = request.reference.as_bytes();
    let found = map.remote_refs.iter().map(Ref::unpack).find(|(name, ..)| name.as_bytes() == wanted);
    if let Some(id) = found.and_then(|(_, id, _)| id) {
        return Ok((id.to_owned(), map.object_hash));
    }
    // The server was asked for this ref only; what else it has helps the operator.
    let all = link::ref_map(repo, request, false)?;
    Err(Answer::NoRef(absent(&all.remote_refs.iter().map(|r| r.unpack().0.to_string()).collect::<Vec<_>>())))
}

/// Why the ref is not there, as far as the other names tell.
fn absent(names: &[String]) -> String {
    let mut branches: Vec<String> = names
        .iter()
        .filter_map(|n| n.strip_prefix("refs/heads/"))
        .map(|n| format!("{:.60}", n.escape_debug()))
        .collect();
    branches.sort();
    match branches.len() {
        0 => "it has no branch at all; the repository may be empty".to_owned(),
        n if n > 5 => format!("it has {n} other branches, {} among them", branches[0]),
        _ => format!("its branches are {}", branches.join(", ")),
    }
}
