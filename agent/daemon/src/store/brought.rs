//! Images that a deployment brought: pulled or built, and not here before. What was here before is nobody's to remove.

use std::collections::BTreeMap;

use evenkeel_core::id::{DeploymentId, ImageId};
use rusqlite::params;

use super::{Store, StoreError};

impl Store {
    /// Notes images with the references that they came under.
    pub fn note_brought(&self, deployment: DeploymentId, images: &[(ImageId, String)]) -> Result<(), StoreError> {
        if images.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            for (image, reference) in images {
                let row = params![image.0, reference, deployment.0];
                tx.execute("INSERT OR REPLACE INTO brought VALUES (?1, ?2, ?3)", row)?;
            }
            Ok(())
        })
    }

    /// Whether a deployment brought this image.
    pub fn is_brought(&self, image: &ImageId) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM brought WHERE image = ?1)";
        self.read(|db| db.query_row(sql, [&image.0], |row| row.get(0)))
    }

    /// The brought images that no release has any more, with their references. What a deployment brought that came to
    /// nothing stays until its stack has got further: it is likely to be wanted once more.
    pub fn brought_in_vain(&self) -> Result<BTreeMap<ImageId, Vec<String>>, StoreError> {
        let rows: Vec<(String, String)> = self.read(|db| {
            db.prepare(
                "SELECT image, reference FROM brought JOIN deployments d ON d.id = brought.deployment
                 WHERE EXISTS (SELECT 1 FROM deployments later
                               WHERE later.stack = d.stack AND later.id >= d.id AND later.outcome = 'committed')
                 AND image NOT IN (SELECT each.value ->> 'id' FROM releases, json_each(releases.body, '$.images') AS each)",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        })?;
        let mut images: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
        for (image, reference) in rows {
            images.entry(ImageId(image)).or_default().push(reference);
        }
        Ok(images)
    }

    /// Forgets an image that is gone.
    pub fn forget_brought(&self, image: &ImageId) -> Result<(), StoreError> {
        self.write(|tx| tx.execute("DELETE FROM brought WHERE image = ?1", [&image.0]).map(drop))
    }
}
