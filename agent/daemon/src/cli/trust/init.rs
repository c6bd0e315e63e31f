//! `evenkeel trust init`: from a repository to the files that say what a server trusts.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use evenkeel_core::{id::CommitId, outcome::Exit};
use serde::Serialize;

use super::{
    advice::{by_hand, command, git_config, next_steps, unconfirmed, unsigned},
    ask::Person,
    choose::{Choice, Offer},
    files::{Existing, Files, Introduced, Lists, SourceArgs, block},
    given::{self, Given},
    survey::{Candidate, CandidateLine, CommitLine, Survey},
};
use crate::{
    cli::{
        output::{Failure, Output, SCHEMA},
        runtime,
        text::{BOLD, GREEN, plural},
    },
    config::{self, ConfigErrors, DEFAULT_PATH, settings::Settings},
    git::{self, GitError, Repo, apart::Question},
    terminal,
};

/// Say once what this server trusts: the repository, the keys, the first commit.
///
/// Fetches the branch, shows who signed what, asks whose signatures count and where trusted history begins, and writes
/// agent.yml, and allowed_signers or a folder of OpenPGP certificates. Nothing is asked of anybody but the repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel trust init --url https://github.com/you/infra.git
  curl -fsS https://github.com/you.keys | evenkeel trust init --github you \\
      --url git@github.com:you/infra.git --ssh-key /etc/evenkeel/deploy_key \\
      --known-hosts /etc/evenkeel/known_hosts
  evenkeel trust init --url file:///srv/git/infra.git --branch main \\
      --keys id_ed25519.pub --introduction newest --yes
  gpg --armor --export 0123…CDEF > ada.asc
  evenkeel trust init --url https://github.com/you/infra.git --keys ada.asc
  evenkeel trust init --url https://github.com/you/infra.git --print

Exit codes:
  0 written, or printed   4 the history cannot be trusted so   2 not confirmed")]
pub struct Args {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// A signer's keys as https://github.com/USER.keys (or .gpg) has them, in a file or on standard input
    #[arg(long, value_name = "USER[=FILE]")]
    pub(super) github: Vec<String>,
    /// A signer's public keys, one a line, or OpenPGP certificates; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) keys: Vec<String>,
    /// The fingerprint of a key that signed one of the commits shown
    #[arg(long, value_name = "FINGERPRINT")]
    pub(super) signer: Vec<String>,
    /// The first commit that is trusted: an id, `newest`, or `first` for the whole history
    #[arg(long, value_name = "REV")]
    pub(super) introduction: Option<String>,
    /// How many commits to show
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    last: u16,
    /// The configuration to write; the keys go beside it
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// Show the files, and write nothing
    #[arg(long, conflicts_with = "force")]
    print: bool,
    /// Replace a configuration that is there; the old one is kept beside it
    #[arg(long)]
    force: bool,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

/// The document of `--format json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    url: &'a str,
    #[serde(rename = "ref")]
    reference: String,
    tip: &'a CommitId,
    commits: Vec<CommitLine<'a>>,
    keys: Vec<CandidateLine<'a>>,
    introduction: Option<Introduction<'a>>,
    files: Vec<FileLine<'a>>,
    git_config: Vec<String>,
}

#[derive(Serialize)]
struct Introduction<'a> {
    commit: &'a CommitId,
    signer: &'a str,
}

#[derive(Serialize)]
struct FileLine<'a> {
    path: &'a Path,
    written: bool,
    content: &'a str,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let files = Files::at(&args.config)?;
    if !args.print {
        files.check_writable()?;
    }
    let (given, stdin_is_read) = given::keys(&args.github, &args.keys, out)?;
    let scratch = Scratch::make()?;
    let settings = scratch.settings(&args.source)?;
    let mut person = if args.yes { None } else { Person::at_terminal(out, stdin_is_read) };
    let Some(found) = settle(args, &given, (&scratch, &files, &settings), person.as_mut(), out)? else {
        return Err(unconfirmed());
    };
    conclude(args, &files, &found, person.as_mut(), out)
}

/// A folder for what is looked at before it is believed: the mirror, and the keys while they are only a proposal.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn make() -> Result<Self, Failure> {
        let made = tempfile::Builder::new().prefix("evenkeel-trust-").tempdir();
        let this = made.map(Self).map_err(|e| cannot_stage(&e))?;
        fs::write(this.signers(), "").map_err(|e| cannot_stage(&e))?;
        Ok(this)
    }

    fn mirror(&self) -> PathBuf {
        self.0.path().join("mirror.git")
    }

    fn signers(&self) -> PathBuf {
        self.0.path().join("allowed_signers")
    }

    fn certificates(&self) -> PathBuf {
        self.0.path().join("openpgp")
    }

    /// The settings that `agent.yml` would have with these flags.
    fn settings(&self, source: &SourceArgs) -> Result<Settings, Failure> {
        let signers = self.signers();
        let lists = Lists { allowed_signers: Some(&signers), openpgp_certificates: None };
        config::check(&block(source, lists, None), Path::new("agent.yml")).map_err(|e| wrong_flags(&e))
    }

    /// The same with these keys besides those of the server's files, and an introduction.
    fn settings_with(
        &self,
        source: &SourceArgs,
        (files, chosen): (&Files, &[&Candidate]),
        introduced: Option<&Introduced<'_>>,
    ) -> Result<Settings, Failure> {
        let folder = self.certificates();
        self.put(files, chosen).map_err(|e| cannot_stage(&e))?;
        let (signers, real) = (self.signers(), files.lists(chosen));
        let lists = Lists {
            allowed_signers: real.allowed_signers.map(|_| signers.as_path()),
            openpgp_certificates: real.openpgp_certificates.map(|_| folder.as_path()),
        };
        config::check(&block(source, lists, introduced), Path::new("agent.yml")).map_err(|e| wrong_flags(&e))
    }

    fn put(&self, files: &Files, chosen: &[&Candidate]) -> io::Result<()> {
        let folder = self.certificates();
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        fs::write(self.signers(), files.signers_text(chosen))?;
        if files.certificates.exists() {
            for entry in fs::read_dir(&files.certificates)? {
                let entry = entry?;
                fs::copy(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        for (path, text) in files.new_certificates(chosen) {
            fs::write(folder.join(path.file_name().unwrap_or_default()), text)?;
        }
        Ok(())
    }
}

fn cannot_stage(e: &io::Error) -> Failure {
    Failure::failed("stage.failed", format!("cannot use the temporary folder: {e}"), "look at $TMPDIR")
}

/// What is wrong with the flags, in their own names.
fn wrong_flags(errors: &ConfigErrors) -> Failure {
    let flag = |key: &str| match key.rsplit('.').next().unwrap_or_default() {
        "ref" => "--branch".to_owned(),
        other => format!("--{}", other.replace('_', "-")),
    };
    let lines: Vec<String> =
        errors.problems.iter().map(|p| format!("{} {}\n    {}", flag(&p.key), p.message, p.help)).collect();
    Failure::usage("config.invalid", lines.join("\n"), "correct the flags; docs/remotes.md shows every kind of remote")
}

/// A choice that the rules on trust bear out.
struct Found {
    tip: CommitId,
    survey: Survey,
    choice: Choice,
    /// Who signed the introduction.
    introduced_by: Option<String>,
}

impl Found {
    fn chosen(&self) -> Vec<&Candidate> {
        self.choice.signers.iter().map(|&at| &self.survey.keys[at]).collect()
    }

    fn introduced(&self) -> Option<Introduced<'_>> {
        self.choice
            .introduction
            .as_ref()
            .zip(self.introduced_by.as_deref())
            .map(|(commit, signer)| Introduced { commit, signer })
    }
}

/// Fetches, shows and asks until there is a choice that holds. `None`: nobody was there to choose.
fn settle(
    args: &Args,
    given: &[Given],
    (scratch, files, settings): (&Scratch, &Files, &Settings),
    mut person: Option<&mut Person<'_>>,
    out: &Output,
) -> Result<Option<Found>, Failure> {
    loop {
        let tip = fetch(settings, scratch)?;
        let repo = Repo::open(&scratch.mirror()).map_err(|e| failed(&e))?;
        let survey = Survey::of(&repo, &tip, usize::from(args.last), given).map_err(|e| failed(&e))?;
        if !out.is_json() {
            out.text(&format!("{}\n", survey.text(&args.source.reference())));
        }
        let is_signed = survey.commits.first().is_some_and(|seen| seen.signer().is_some());
        if !is_signed {
            let lines = git_config(given.first().map(|g| (g.key.short_kind(), g.key.fingerprint())));
            let told = unsigned(&survey, &lines);
            let Some(person) = person.as_deref_mut().filter(|_| survey.lacks().is_none()) else { return Err(told) };
            out.note(&format!("The newest commit is not signed, so trust cannot begin.\n{}", told.help));
            person.ask("Press Enter to look again", "", |_| Ok(()))?;
            continue;
        }
        let offer =
            Offer { survey: &survey, repo: &repo, signers: &args.signer, introduction: args.introduction.as_deref() };
        let choice = match person.as_deref_mut() {
            Some(person) => offer.by(person)?,
            None if args.yes => offer.by_flags()?,
            None => {
                out.note(&format!("To confirm without a terminal:\n  {}", command(args, &survey)));
                return Ok(None);
            }
        };
        match bear_out(args, &offer, choice, (scratch, files)) {
            Ok((choice, introduced_by)) => return Ok(Some(Found { tip, survey, choice, introduced_by })),
            Err(failure) if person.is_some() && failure.exit == Exit::Refused => {
                out.failure(&failure);
                out.note("Choose again, or push a commit that the rule accepts and press Enter twice.\n");
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn fetch(settings: &Settings, scratch: &Scratch) -> Result<CommitId, Failure> {
    let watched = terminal::is_watched();
    if watched {
        terminal::show(&format!("fetching {} …", settings.source.url));
    }
    let fetched = runtime()?.block_on(git::fetch(&settings.source, &scratch.mirror()));
    if watched {
        terminal::show("");
    }
    fetched.map(|fetched| fetched.tip).map_err(|e| failed(&e))
}

/// Asks the rules themselves, with the keys and the introduction that were chosen.
fn bear_out(
    args: &Args,
    offer: &Offer<'_>,
    choice: Choice,
    (scratch, files): (&Scratch, &Files),
) -> Result<(Choice, Option<String>), Failure> {
    let chosen: Vec<&Candidate> = choice.signers.iter().map(|&at| &offer.survey.keys[at]).collect();
    if chosen.is_empty() && files.listed() == 0 {
        let help = "name signers: --signer FINGERPRINT of a key that is shown, --keys FILE, or --github USER=FILE";
        return Err(Failure::usage("trust.keys", "no key was chosen: nobody could deploy", help));
    }
    let introduced_by = match &choice.introduction {
        None => None,
        Some(id) => {
            let seen = git::survey::one(offer.repo, &offer.survey.keyring, id).map_err(|e| failed(&e))?;
            let signer = seen.signer().map(str::to_owned).ok_or_else(|| {
                let message =
                    format!("the commit {} carries no signature that fits it, so trust cannot begin there", id.short());
                Failure::new(
                    Exit::Refused,
                    "trust.refused",
                    message,
                    "choose a commit that is signed; `newest` is the least to trust",
                )
            })?;
            Some(signer)
        }
    };
    let introduced = choice
        .introduction
        .as_ref()
        .zip(introduced_by.as_deref())
        .map(|(commit, signer)| Introduced { commit, signer });
    let settings = scratch.settings_with(&args.source, (files, &chosen), introduced.as_ref())?;
    let tip = &offer.survey.commits[0].commit.id;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    let question = Question {
        mirror: scratch.mirror(),
        trust: settings.trust,
        reference: settings.source.reference,
        tip: tip.clone(),
        accepted: None,
        beside: None,
        now_unix: now,
    };
    match runtime()?.block_on(question.decide_apart()).map_err(|e| failed(&e))? {
        Ok(_) => Ok((choice, introduced_by)),
        Err(refusal) => Err(Failure::new(
            Exit::Refused,
            "trust.refused",
            format!("with this choice the server would refuse the branch: {refusal}"),
            "choose the newest commit as the introduction, or the keys of all who signed since",
        )),
    }
}

/// Confirms, writes, and says what comes next.
fn conclude(
    args: &Args,
    files: &Files,
    found: &Found,
    person: Option<&mut Person<'_>>,
    out: &Output,
) -> Result<Exit, Failure> {
    let chosen = found.chosen();
    let block = block(&args.source, files.lists(&chosen), found.introduced().as_ref());
    let (keys, config) = (files.of_keys(&chosen), files.config_text(&block));
    let mut written = false;
    let mut old = None;
    if !args.print {
        may_write(args, (files, &chosen), &by_hand(files, &block, &chosen), person, out)?;
        old = files.write(&keys, &config)?;
        config::load(&files.config).map_err(|e| Failure::usage("config.invalid", e.to_string(), "correct the file"))?;
        written = true;
    }
    let first = chosen.first().map(|c| (c.key.short_kind(), c.key.fingerprint()));
    let git_config = git_config(first);
    let all = || {
        keys.iter()
            .map(|(path, text)| (path.as_path(), text.as_str()))
            .chain([(files.config.as_path(), config.as_str())])
    };
    if out.is_json() {
        out.json(&Document {
            schema: SCHEMA,
            url: &args.source.url,
            reference: args.source.reference(),
            tip: &found.tip,
            commits: found.survey.commit_lines(),
            keys: found.survey.key_lines(&found.choice.signers),
            introduction: found.introduced().map(|i| Introduction { commit: i.commit, signer: i.signer }),
            files: all().map(|(path, content)| FileLine { path, written, content }).collect(),
            git_config,
        });
        return Ok(Exit::Fine);
    }
    let mut text = String::new();
    if args.print {
        for (path, content) in all() {
            let _ = write!(text, "{BOLD}{}{BOLD:#}\n\n{content}\n", path.display());
        }
    } else {
        for (path, _) in all() {
            let _ = writeln!(text, "{GREEN}wrote{GREEN:#} {}", path.display());
        }
        if let Some(old) = old {
            let _ = writeln!(text, "the old one is {}", old.display());
        }
    }
    text.push_str(&next_steps(files, &git_config, written));
    out.text(&text);
    if written && !rustix::process::geteuid().is_root() {
        out.note("note: these files belong to you; on a server they are root's: chown root: FILE");
    }
    Ok(Exit::Fine)
}

/// Whether the files may be written, and whether the person agrees.
fn may_write(
    args: &Args,
    (files, chosen): (&Files, &[&Candidate]),
    by_hand: &str,
    person: Option<&mut Person<'_>>,
    out: &Output,
) -> Result<(), Failure> {
    let config = files.config.display();
    if matches!(files.existing, Existing::Full(_)) && !args.force {
        let replace = match person {
            Some(person) => person
                .agrees(&format!("{config} is there already. Replace it, and keep the old one beside it?"), false)?,
            None => false,
        };
        if !replace {
            if !out.is_json() {
                out.text(by_hand);
            }
            let message = format!("{config} is there already; nothing was written");
            let help = "put the block into it in place of its own `source` and `trust`, or use --force to replace the whole file";
            return Err(Failure::usage("trust.exists", message, help));
        }
        return Ok(());
    }
    let Some(person) = person else { return Ok(()) };
    let listed = match files.listed() {
        0 => String::new(),
        n => format!(" (it keeps {} that it has)", plural(n, "key")),
    };
    let Lists { allowed_signers, openpgp_certificates } = files.lists(chosen);
    let lists: Vec<String> =
        [allowed_signers, openpgp_certificates].into_iter().flatten().map(|path| path.display().to_string()).collect();
    let question = format!("Write {}{listed} and {config}?", lists.join(", "));
    if person.agrees(&question, true)? {
        Ok(())
    } else {
        Err(Failure::usage("trust.unconfirmed", "nothing was written", ""))
    }
}

fn failed(error: &GitError) -> Failure {
    let reason = error.reason();
    let exit = if reason.class == evenkeel_core::reason::Class::Transient { Exit::Transient } else { Exit::Failed };
    Failure::new(exit, reason.code.as_str(), error.to_string(), "")
}
