//! Images by id, and the tags that stand for them.

use std::collections::BTreeSet;

use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions};
use evenkeel_core::id::ImageId;

use super::{Engine, EngineError};

impl Engine {
    /// The image that a reference or an id stands for now, or `None` if it is not here.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageId>, EngineError> {
        match self.docker()?.inspect_image(reference).await {
            Ok(found) => Ok(found.id.map(ImageId)),
            Err(e) => match self.error("look for an image", &e) {
                EngineError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The reference by digest under which the registry of `reference` has this image. What the reference stands for by now
    /// does not matter.
    pub async fn pinned(&self, image: &ImageId, reference: &str) -> Result<Option<String>, EngineError> {
        let found = match self.docker()?.inspect_image(&image.0).await {
            Ok(found) => found,
            Err(e) => match self.error("look for an image", &e) {
                EngineError::NotFound(_) => return Ok(None),
                other => return Err(other),
            },
        };
        let (repository, _) = split(reference.split_once('@').map_or(reference, |(name, _)| name));
        let digests = found.repo_digests.unwrap_or_default();
        let is_of =
            |digest: &String| digest.split_once('@').is_some_and(|(name, _)| familiar(name) == familiar(repository));
        Ok(digests.into_iter().find(is_of))
    }

    /// Every tag of an image, or `None` if it is not here.
    pub async fn tags_of(&self, image: &ImageId) -> Result<Option<Vec<String>>, EngineError> {
        match self.docker()?.inspect_image(&image.0).await {
            Ok(found) => Ok(Some(found.repo_tags.unwrap_or_default())),
            Err(e) => match self.error("look for an image", &e) {
                EngineError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Every image that is here.
    pub async fn images(&self) -> Result<BTreeSet<ImageId>, EngineError> {
        let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
        let images = self.docker()?.list_images(Some(options)).await.map_err(|e| self.error("list images", &e))?;
        Ok(images.into_iter().map(|image| ImageId(image.id)).collect())
    }

    /// Every image that a container was made from, whoever made it.
    pub async fn used(&self) -> Result<BTreeSet<ImageId>, EngineError> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let containers = self.docker()?.list_containers(Some(options)).await;
        let containers = containers.map_err(|e| self.error("list containers", &e))?;
        Ok(containers.into_iter().filter_map(|container| container.image_id).map(ImageId).collect())
    }

    /// Points `reference` at an image that is here. A reference by digest points where it points; it is left alone.
    pub async fn point(&self, reference: &str, id: &ImageId) -> Result<(), EngineError> {
        if reference.contains('@') || reference == id.0 || self.image(reference).await?.as_ref() == Some(id) {
            return Ok(());
        }
        let (repo, tag) = split(reference);
        let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
        self.docker()?.tag_image(&id.0, Some(options)).await.map_err(|e| self.error("tag an image", &e))
    }

    /// Takes a tag or a reference by digest away; the image goes only if nothing else needs
    /// it, and what it was made of stays. A tag that is gone already is fine.
    pub async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        let options = RemoveImageOptions { force: false, noprune: true, platforms: None };
        match self.docker()?.remove_image(reference, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(e) => match self.error("remove a tag", &e) {
                EngineError::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }
}

/// A repository's name as the engine shows it: what is left out stands for Docker Hub.
fn familiar(repository: &str) -> &str {
    let hub = ["docker.io/", "index.docker.io/"].iter().find_map(|host| repository.strip_prefix(host));
    let name = hub.unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

/// Splits `host:5000/name:tag` at the tag; without one it is `latest`.
fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_a_tag() {
        assert_eq!(split("nginx"), ("nginx", "latest"));
        assert_eq!(split("nginx:1.27"), ("nginx", "1.27"));
        assert_eq!(split("localhost:5000/nginx"), ("localhost:5000/nginx", "latest"));
        assert_eq!(split("localhost:5000/nginx:1"), ("localhost:5000/nginx", "1"));
    }

    #[test]
    fn docker_hub_goes_without_saying() {
        for name in
            ["nginx", "library/nginx", "docker.io/nginx", "docker.io/library/nginx", "index.docker.io/library/nginx"]
        {
            assert_eq!(familiar(name), "nginx");
        }
        assert_eq!(familiar("docker.io/foo/bar"), "foo/bar");
        assert_eq!(familiar("ghcr.io/library/x"), "ghcr.io/library/x");
    }
}
