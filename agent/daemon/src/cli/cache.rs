//! `--no-cache`, and what a verb remembers of earlier calls: renderings of what the repository has in plain text (decision 0031).

use std::{env, path::PathBuf};

use super::{
    output::{Failure, Format, Output},
    repo,
};
use crate::{
    cache::{self, Cache, Limits},
    compose::{Compose, renders::Renders},
};

/// The folder within the one of all that Evenkeel caches.
const FOLDER: &str = "renders";

/// Whether earlier calls count.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CacheArgs {
    /// Render every stack anew, and keep nothing for the next call
    #[arg(long)]
    no_cache: bool,
}

/// Compose, and what it rendered: servers and revisions have many stacks in common, and so have calls.
pub struct With {
    /// The program.
    pub compose: Compose,
    /// What it rendered.
    pub renders: Renders,
}

impl With {
    /// Finds Compose, checks its version, and opens what is left of earlier calls.
    pub async fn of(args: CacheArgs) -> Result<Self, Failure> {
        let (compose, version) = repo::compose().await?;
        let cache = if args.no_cache { None } else { open() };
        let renders = match cache {
            Some(cache) => Renders::lasting(cache, &compose, &version),
            None => Renders::default(),
        };
        Ok(Self { compose, renders })
    }
}

/// The cache of whoever calls. A folder that was named and cannot be used is told of, and nothing fails for want of it.
fn open() -> Option<Cache> {
    let path = |name: &str| env::var_os(name).map(PathBuf::from);
    let (stated, home) = (path("XDG_CACHE_HOME").filter(|path| path.is_absolute()), path("HOME"));
    let place = cache::place(stated.as_deref(), home.as_deref())?;
    if stated.is_none() && !cache::is_own(&place) {
        return None;
    }
    match Cache::open(&place, FOLDER, Limits::default()) {
        Ok(cache) => Some(cache),
        Err(error) => {
            if stated.is_some() {
                Output::new(Format::Text).note(&format!("note: without a cache: {error}"));
            }
            None
        }
    }
}
