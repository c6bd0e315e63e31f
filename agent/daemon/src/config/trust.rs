//! The block `trust`: whose commits may run.

use std::time::Duration;

use evenkeel_core::{id::CommitId, trust::openpgp_fingerprint};

use super::{
    read::{DAY, SECOND, optional},
    section::{Read, Recorded, Section},
    settings::{Introduction, SignersOf, Trust},
    value,
};

/// How long the repository may be silent, unless the interval is longer.
const STALE_AFTER: Duration = DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Server,
    Repository,
}

/// Reads the block. `interval` is how often the repository is asked.
pub(super) fn trust(trust: Section<'_, '_>, interval: Duration) -> Read<Trust> {
    let modes = [("server", Mode::Server), ("repository", Mode::Repository)];
    let mode = trust.find("signers").map_or(Ok(Mode::Server), |found| found.choice(&modes));
    let revoked = trust.guarded_file("revoked");
    let introduction = optional(trust.find("introduction"), introduction);
    let signers = match mode {
        Ok(Mode::Server) => server(&trust),
        Ok(Mode::Repository) => repository(&trust, matches!(introduction, Ok(None))),
        Err(Recorded) => trust.guarded_file("allowed_signers").and(Err(Recorded)),
    };
    let forge_keys = trust.guarded_file("forge_keys");
    let require_deploy_to = trust.flag("require_deploy_to", false);
    let stale_after = trust.duration("stale_after", STALE_AFTER.max(2 * interval), (SECOND, 366 * DAY));
    if stale_after.is_ok_and(|stale_after| stale_after <= interval) {
        let interval = value::duration_text(interval);
        let message = format!("is not longer than source.interval ({interval}): the alarm would ring at once");
        trust.wrong("stale_after", message, "write a longer time, some intervals at least; unset it is 1d");
    }
    trust.finish();
    Ok(Trust {
        signers: signers?,
        revoked: revoked?,
        introduction: introduction?,
        forge_keys: forge_keys?,
        require_deploy_to: require_deploy_to?,
        stale_after: stale_after?,
    })
}

fn server(trust: &Section<'_, '_>) -> Read<SignersOf> {
    let openpgp_certificates = trust.guarded_folder("openpgp_certificates")?;
    let allowed_signers = match &openpgp_certificates {
        // Then a file of SSH keys is used only if it is named.
        Some(_) => trust.guarded_file("allowed_signers")?,
        None => Some(trust.guarded_file_or("allowed_signers", "/etc/evenkeel/allowed_signers")?),
    };
    Ok(SignersOf::Server { allowed_signers, openpgp_certificates })
}

/// With two lists nobody could tell which one counts, and without an introduction the first list would be anybody's.
fn repository(trust: &Section<'_, '_>, lacks_introduction: bool) -> Read<SignersOf> {
    for key in ["allowed_signers", "openpgp_certificates"] {
        if trust.find(key).is_some() {
            let message = "contradicts `signers: repository`: the keys are those of .evenkeel/allowed_signers there";
            trust.wrong(key, message, "remove it, or write `signers: server`");
        }
    }
    if lacks_introduction {
        let message = "is missing: with `signers: repository` it says from which commit on its own list is believed";
        let help = "write `commit` and `signer` of the first trusted commit";
        trust.wrong("introduction", message, help);
        return Err(Recorded);
    }
    Ok(SignersOf::Repository)
}

fn introduction(introduction: Section<'_, '_>) -> Read<Introduction> {
    let commit = introduction
        .require("commit", "write the full id of the first commit that is trusted")
        .and_then(|found| found.parsed(CommitId::new, "write all 40 or 64 digits, as `git rev-parse` prints them"));
    let help = "write the fingerprint as `ssh-keygen -lf key.pub` or `gpg --fingerprint` prints it";
    let signer = introduction.require("signer", help).and_then(|found| {
        let text = found.text()?;
        let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
        match text.strip_prefix("SHA256:") {
            Some(rest) if rest.len() == 43 && rest.bytes().all(base64) => Ok(text.to_owned()),
            _ => openpgp_fingerprint(text).map_or_else(
                || {
                    found
                        .wrong("must be a key's fingerprint: SHA256: and 43 characters, or 40 hexadecimal digits", help)
                },
                Ok,
            ),
        }
    });
    introduction.finish();
    Ok(Introduction { commit: commit?, signer: signer? })
}
