//! On the real restic; `make test` brings it.

use std::{fs, process::Command};

use super::*;

struct World {
    dir: tempfile::TempDir,
    settings: Backup,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("password"), "correct horse").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/notes"), "precious").unwrap();
        let settings = Backup {
            repository: dir.path().join("repository").display().to_string(),
            password_file: dir.path().join("password"),
            env_file: None,
            required: true,
            keep: None,
        };
        Self { dir, settings }
    }

    async fn snapshot(&self) -> Result<String, BackupError> {
        let restic = Restic::new(Runner::plain(), &self.settings, self.dir.path(), "home");
        let about = About { stack: "web".to_owned(), project: "web".to_owned(), ..About::default() };
        restic.be_ready(false).await?;
        restic.snapshot(&about, &[self.dir.path().join("data")]).await
    }
}

#[tokio::test]
async fn a_snapshot_can_be_restored_as_it_was() {
    let world = World::new();
    let snapshot = world.snapshot().await.unwrap();
    let target = world.dir.path().join("restored");
    let restored = Command::new("restic")
        .args(["restore", &snapshot, "--target"])
        .arg(&target)
        .env("RESTIC_REPOSITORY", &world.settings.repository)
        .env("RESTIC_PASSWORD_FILE", &world.settings.password_file)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let data = target.join(world.dir.path().strip_prefix("/").unwrap()).join("data/notes");
    assert_eq!(fs::read_to_string(data).unwrap(), "precious");
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_and_names_the_file() {
    let world = World::new();
    world.snapshot().await.unwrap();
    fs::write(&world.settings.password_file, "wrong").unwrap();
    let error = world.snapshot().await.unwrap_err();
    assert!(matches!(&error, BackupError::WrongPassword(path) if *path == world.settings.password_file), "{error}");
}

#[tokio::test]
async fn a_repository_that_cannot_be_made_says_what_restic_said() {
    let mut world = World::new();
    world.settings.repository = "s3:".to_owned();
    let error = world.snapshot().await.unwrap_err();
    assert!(matches!(error, BackupError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("repository location"), "{error}");
}

#[tokio::test]
async fn a_line_of_the_env_file_that_is_no_pair_is_named() {
    let mut world = World::new();
    let path = world.dir.path().join("env");
    fs::write(&path, "# credentials\nAWS_ACCESS_KEY_ID=a\nnonsense\n").unwrap();
    world.settings.env_file = Some(path);
    let error = world.snapshot().await.unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
}
