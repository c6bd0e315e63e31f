//! What an image is, by its name.

/// Names of images, or of an image with its folder, that hold data: databases and caches.
const DATABASES: &[&str] = &[
    "arangodb",
    "cassandra",
    "clickhouse",
    "clickhouse-server",
    "cockroach",
    "couchbase",
    "couchdb",
    "dragonfly",
    "elasticsearch",
    "etcd",
    "immich-app/postgres",
    "influxdb",
    "keydb",
    "kvrocks",
    "mariadb",
    "memcached",
    "mongo",
    "mongodb",
    "mongodb-community-server",
    "mssql/server",
    "mysql",
    "mysql-server",
    "neo4j",
    "opensearch",
    "percona",
    "percona-server",
    "pgvecto-rs",
    "pgvector",
    "postgis",
    "postgres",
    "postgresql",
    "redis",
    "redis-stack",
    "redis-stack-server",
    "scylla",
    "surrealdb",
    "timescaledb",
    "timescaledb-ha",
    "valkey",
    "vectorchord",
];

/// Reverse proxies.
const PROXIES: &[&str] = &[
    "caddy",
    "caddy-docker-proxy",
    "envoy",
    "haproxy",
    "nginx-proxy",
    "nginx-proxy-manager",
    "swag",
    "traefik",
    "zoraxy",
];

/// Programs that replace containers on their own.
const UPDATERS: &[&str] = &["dockupdater", "ouroboros", "shepherd", "tugtainer", "watchtower"];

/// Images that are known to bring a healthcheck of their own.
const CHECKED: &[&str] = &[
    "authelia/authelia",
    "cadvisor/cadvisor",
    "docker-mailserver",
    "gethomepage/homepage",
    "gluetun",
    "immich-machine-learning",
    "immich-server",
    "jellyfin/jellyfin",
    "mealie",
    "paperless-ngx",
    "pihole/pihole",
    "plexinc/pms-docker",
    "syncthing/syncthing",
    "uptime-kuma",
    "vaultwarden/server",
];

/// An image reference, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// Registry, folder and name, without tag and digest.
    pub path: &'a str,
    /// The tag.
    pub tag: Option<&'a str>,
    /// Whether a digest pins it.
    pub is_pinned: bool,
}

impl<'a> Image<'a> {
    /// Takes a reference apart.
    pub fn parse(reference: &'a str) -> Self {
        let (rest, is_pinned) = reference.split_once('@').map_or((reference, false), |(rest, _)| (rest, true));
        // A colon before the last slash is the registry's port.
        let name_at = rest.rfind('/').map_or(0, |at| at + 1);
        match rest[name_at..].split_once(':') {
            Some((name, tag)) => Self { path: &rest[..name_at + name.len()], tag: Some(tag), is_pinned },
            None => Self { path: rest, tag: None, is_pinned },
        }
    }

    /// Whether it is one of these: the last part of its path, or the last two.
    fn is_among(&self, names: &[&str]) -> bool {
        let lower = self.path.to_ascii_lowercase();
        names.iter().any(|name| lower == *name || lower.strip_suffix(name).is_some_and(|rest| rest.ends_with('/')))
    }

    /// A database or cache.
    pub fn is_database(&self) -> bool {
        self.is_among(DATABASES)
    }

    /// A reverse proxy.
    pub fn is_proxy(&self) -> bool {
        self.is_among(PROXIES)
    }

    /// A program that replaces containers on its own.
    pub fn is_updater(&self) -> bool {
        self.is_among(UPDATERS)
    }

    /// Made to stand between the engine's socket and whoever wants a part of it.
    pub fn is_socket_proxy(&self) -> bool {
        let lower = self.path.to_ascii_lowercase();
        ["socket-proxy", "socketproxy", "dockerproxy"].iter().any(|word| lower.contains(word))
    }

    /// Known to bring a healthcheck of its own.
    pub fn brings_healthcheck(&self) -> bool {
        self.is_among(CHECKED) || self.is_updater()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_references_apart() {
        let of = |text| {
            let Image { path, tag, is_pinned } = Image::parse(text);
            (path, tag, is_pinned)
        };
        assert_eq!(of("nginx"), ("nginx", None, false));
        assert_eq!(of("r.example:5000/a/b"), ("r.example:5000/a/b", None, false));
        assert_eq!(of("r.example:5000/a/b:1"), ("r.example:5000/a/b", Some("1"), false));
        assert_eq!(of("a@sha256:0"), ("a", None, true));
        assert_eq!(of("a:1@sha256:0"), ("a", Some("1"), true));
    }

    #[test]
    fn knows_databases_and_not_what_is_about_them() {
        let database = |text: &str| Image::parse(text).is_database();
        for image in
            ["postgres:16", "docker.io/library/redis", "bitnami/postgresql:1", "ghcr.io/immich-app/postgres:14"]
        {
            assert!(database(image), "{image}");
        }
        for image in
            ["prom/mysqld-exporter", "redis-commander", "dpage/pgadmin4", "mongo-express", "me/server", "x/mypostgres"]
        {
            assert!(!database(image), "{image}");
        }
        assert!(Image::parse("mcr.microsoft.com/mssql/server:2022").is_database());
        assert!(Image::parse("containrrr/watchtower").is_updater());
        assert!(Image::parse("tecnativa/docker-socket-proxy").is_socket_proxy());
    }
}
