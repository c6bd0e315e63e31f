//! The codes themselves.

use evenkeel_layout::problem::Severity;

use super::Rule;

const fn error(code: &'static str, what: &'static str, why: &'static str, fix: &'static str) -> Rule {
    Rule { code, severity: Severity::Error, what, why, fix }
}

const fn warning(code: &'static str, what: &'static str, why: &'static str, fix: &'static str) -> Rule {
    Rule { code, severity: Severity::Warning, what, why, fix }
}

const fn info(code: &'static str, what: &'static str, why: &'static str, fix: &'static str) -> Rule {
    Rule { code, severity: Severity::Info, what, why, fix }
}

/// Sorted by code.
pub const RULES: &[Rule] = &[
    error(
        "compose.empty",
        "a Compose file without anything in it",
        "there is nothing to deploy, which is seldom what an empty file is meant to say",
        "define services in it, or remove it",
    ),
    error(
        "compose.failed",
        "Compose could not be run to its end",
        "without Compose's answer nobody knows what the stack is",
        "try again; if it stays, run `docker compose config` in the stack's folder",
    ),
    error(
        "compose.invalid",
        "Compose refuses the files",
        "no server can deploy the stack; it keeps what it runs",
        "correct the line that is named",
    ),
    error(
        "compose.layer",
        "a layer whose relative paths cannot be moved",
        "its paths would mean another folder than its own",
        "write each relative path on one line, in one document",
    ),
    error(
        "compose.missing",
        "no `docker compose`, or one that is too old",
        "only Compose knows what its files mean; without it only the repository's shape is checked",
        "install the program (2.20 or later); an engine is not needed",
    ),
    error(
        "compose.syntax",
        "a Compose file that is not YAML, or not a mapping",
        "no server can deploy the stack; it keeps what it runs",
        "correct the line that is named",
    ),
    warning(
        "compose.warning",
        "Compose warns of something",
        "Compose goes on, but perhaps not as the author meant",
        "follow Compose's advice",
    ),
    error(
        "config.syntax",
        "`evenkeel.yml` or `config.json` cannot be read",
        "which stacks a server runs is not known, so nothing is deployed and nothing removed",
        "correct the line that is named",
    ),
    warning(
        "config.unknown-key",
        "a key that has no effect; in `evenkeel.yml` it is an error",
        "a mistyped key is a setting that somebody believes in and nobody follows",
        "correct it or remove it",
    ),
    warning(
        "config.value",
        "a value that makes no sense where it stands; an error unless it can be passed over",
        "what was meant cannot be done",
        "correct the line that is named",
    ),
    error(
        "depends.cycle",
        "stacks that depend on each other in a circle",
        "none of them could ever be the first",
        "remove one of the dependencies",
    ),
    error(
        "depends.unknown",
        "a dependency on a stack that the server does not have",
        "the stack would wait for ever",
        "correct the name, or let the server run that stack too",
    ),
    error(
        "env.ciphertext",
        "encrypted text where a value is expected",
        "the service would get the ciphertext for its password",
        "decrypt it on the server",
    ),
    warning(
        "env.file",
        "an environment file that is not in the repository",
        "it has to be on the server before the stack can be deployed",
        "put it into the live tree on the server; `required: false` if it may be missing",
    ),
    warning(
        "env.no-value",
        "a variable that a service is handed without a value",
        "`KEY` alone takes the value from the shell that starts Compose, and the agent has none: the service does not get it",
        "write `KEY: value`, `KEY: ${KEY}` with the value in an environment file, or remove it",
    ),
    error(
        "env.overlay",
        "an environment file of the server that cannot be read",
        "the stack would be deployed without its values",
        "check the file's rights, and the free space of the agent's state folder",
    ),
    warning(
        "env.unset",
        "a variable that is used and set nowhere; on a server it is an error",
        "Compose would put nothing in its place, silently",
        "set it in an environment file on the server, or give it a default: `${NAME:-…}`",
    ),
    info(
        "group.alone",
        "a group with one stack only",
        "the stack moves alone, perhaps since the group's name is spelt in two ways",
        "give the stacks that move with it the same `group`, or remove the key",
    ),
    error(
        "group.cycle",
        "stacks that move together and depend on each other through one that does not move with them",
        "a group moves at once: what is between its stacks could come neither before nor after it",
        "take what is between them into the group, or remove a dependency",
    ),
    warning(
        "held.dependency",
        "a stack that would change waits for one that cannot be deployed",
        "what depends on a stack is deployed after it, or not at all",
        "correct the stack that it waits for",
    ),
    warning(
        "held.group",
        "a stack that would change waits for one of its group that cannot be deployed",
        "stacks of one group move together, or not at all",
        "correct the stack that it waits for",
    ),
    error(
        "hooks.size",
        "a health-check script with too much in its folder",
        "the gate runs a private copy of the folder, and a copy of a stack's data would fill the disk and delay the verdict",
        "move the script into a folder of its own, with only what it needs",
    ),
    warning(
        "image.latest",
        "an image without a tag, or with `latest`",
        "nobody can tell what runs, an update is never seen in Git, and a server that is set up anew gets another program than its neighbour",
        "name a version: `image: NAME:1.2.3`",
    ),
    warning(
        "image.updater",
        "a service that updates containers by itself",
        "it replaces what a signed commit chose, unseen and untested, and the agent takes that for drift",
        "remove it and let a bot propose new versions as commits; or let it only report",
    ),
    info(
        "layout.examples",
        "Compose files in a folder that is called `examples` or `example`",
        "they are not taken for stacks, whatever the layout",
        "if some of them are stacks, name them under `stacks:` in evenkeel.yml",
    ),
    error(
        "layout.none",
        "no Compose file that makes a stack",
        "there is nothing to deploy, and what runs is not taken for removed",
        "add `stacks/NAME/compose.yml`, or name the files under `stacks:` in evenkeel.yml",
    ),
    warning(
        "layout.two-files",
        "a Compose file that is not used because another is beside it",
        "`docker compose` takes one of them, and a change in the other does nothing",
        "keep one of the two",
    ),
    warning(
        "layout.unclaimed",
        "a Compose file, or a whole stack, that no server uses",
        "somebody may believe that it runs",
        "name it in a server's list or under `stacks:` in evenkeel.yml, or list it under `ignore:`",
    ),
    warning(
        "network.database",
        "a database or cache on the network of the reverse proxy",
        "everything that is reachable from outside shares that network: one hole in any of it opens the way to the data",
        "give the stack a network of its own for the database, and only the service that needs both of them both",
    ),
    warning(
        "network.missing",
        "an external network that no stack of the server creates",
        "`external: true` means that it is there already; on a new server it is not, and the deployment fails",
        "let one stack create it (`name:` without `external:`), or create it on the server: `docker network create NAME`",
    ),
    warning(
        "network.order",
        "a network of another stack, without depending on that stack",
        "on a new server both are deployed at once, and the network may not be there yet",
        "add `x-evenkeel: {depends_on: [STACK]}`",
    ),
    error(
        "path.outside",
        "something other than a bind mount leads out of the repository",
        "what is deployed must be what was signed, and that ends where the repository ends",
        "put the file itself into the repository, or bind-mount it",
    ),
    warning(
        "path.shared",
        "a file of the repository that two stacks use",
        "it is written by whichever is deployed last, so a rollback of one changes the other's files too",
        "give each stack its own copy, or make them one stack",
    ),
    warning(
        "policy.exception",
        "an exception that does not count: no reason, or a code that cannot be allowed",
        "in a year nobody knows why it was allowed, nor whether it still must be",
        "write `# evenkeel: allow CODE reason`",
    ),
    warning(
        "policy.unknown-code",
        "an exception or a severity for a code that does not exist",
        "what it was meant for is reported or passed over as ever",
        "correct the code",
    ),
    info(
        "policy.unused",
        "an exception that matches nothing",
        "it would hide the next finding of that kind, which nobody has judged",
        "remove it",
    ),
    warning(
        "port.all-interfaces",
        "a port that is published on every interface of the server",
        "Docker opens it past the host's firewall (ufw and firewalld do not see it), and around the proxy with its TLS and login",
        "publish it for the server itself, `127.0.0.1:PORT:PORT`, or on the address that may see it; or remove it and let the proxy lead there",
    ),
    warning(
        "port.conflict",
        "a port of the server that two services publish",
        "the second of them cannot start",
        "give one of them another port",
    ),
    warning(
        "port.database",
        "a database or cache that publishes a port",
        "whoever reaches the server can try passwords on the data itself, and several of them ask for none",
        "remove `ports:`: services of one stack reach it by its name; for yourself publish it on `127.0.0.1`",
    ),
    error(
        "project.duplicate",
        "two stacks of one Compose project",
        "one would take the other's containers for its own and remove them",
        "give one of them another top-level `name:`",
    ),
    error(
        "project.env",
        "files of one project whose `.env` files differ",
        "one project has one environment, and one of the files would get the other's value",
        "give the variable a name of its own in one of them",
    ),
    error(
        "project.invalid",
        "a project name that Compose refuses",
        "no server can deploy the stack",
        "use a-z, 0-9, _ and -, beginning with a letter or a digit",
    ),
    error(
        "project.service-twice",
        "two files of one project that define one service",
        "each would take the other's containers for its own",
        "rename one of the services, or give one file another top-level `name:`",
    ),
    warning(
        "project.unnamed",
        "a project that is named after the folder of the checkout",
        "in another folder the same files are another project, with other containers and volumes",
        "state it with a top-level `name:`",
    ),
    warning(
        "prune.guard",
        "a plan that removes more stacks at once than a server does by itself",
        "a renamed folder or a broken list looks the same as many stacks that are gone, and their containers would be stopped",
        "remove them in several commits, or raise prune.max in agent.yml for a while",
    ),
    warning(
        "reload.unused",
        "a signal for a change in files that the service does not mount",
        "somebody relies on a signal that never comes",
        "mount the file, or correct the path",
    ),
    warning(
        "secret.plain",
        "a secret in plain text in the repository",
        "who can read the repository, or any copy of its history, has it; it stays in the history after it is removed",
        "use a variable, keep its value in an environment file on the server, and replace the secret: it is known",
    ),
    error(
        "secrets.content",
        "an encrypted file that was opened and does not hold what is needed",
        "Compose could not read variables from it, or it could not be handed to a container",
        "keep `NAME=value` lines in an environment file, or a flat YAML or JSON document; keep a secret or config text of at most 120 KiB",
    ),
    error(
        "secrets.damaged",
        "an encrypted file that was changed after it was encrypted, or is cut short",
        "nobody can say what its values were meant to be",
        "take it from an earlier commit, or encrypt it again",
    ),
    error(
        "secrets.memory",
        "an encrypted file that cannot be opened in memory",
        "its plain text is never written to a disk",
        "look at the system's limits",
    ),
    warning(
        "secrets.no-key",
        "an encrypted file that was not looked into for want of a key; on a server it is an error",
        "its variables are taken for set, and nobody knows whether they are",
        "name a key with `--identity`; on a server, in agent.yml under `secrets`",
    ),
    error(
        "secrets.undeliverable",
        "an encrypted file of `secrets:` or `configs:` that no container could see",
        "its plain text is copied into the container's own layer before it starts, and lies in no other file of the server: a container that is `read_only`, or has something mounted there, hides it",
        "give it a `target:` outside of the mount, or hand the value over in an encrypted env_file",
    ),
    error(
        "secrets.unsupported",
        "an encrypted file that is not for a server: for a passphrase, PGP only, split keys",
        "a server has nobody to ask",
        "encrypt it for the server's age key",
    ),
    error(
        "secrets.wrong-key",
        "an encrypted file that is for other keys",
        "the server could not open it",
        "add the server's key to .evenkeel/recipients and run `evenkeel secrets rekey`, or `sops rotate --add-age`",
    ),
    warning(
        "server.name",
        "a folder that would be a server and whose name cannot be one",
        "no agent can run it",
        "rename the folder",
    ),
    error(
        "server.unknown",
        "a server that the repository does not name",
        "an agent of that name would have nothing to run",
        "correct the name, or add the server",
    ),
    warning(
        "service.container-name",
        "a container name that two services of a server have",
        "a name can be given once: the second of them cannot start",
        "remove `container_name:`, or choose another",
    ),
    warning(
        "service.docker-socket",
        "a service that can talk to the Docker engine",
        "who commands the engine is root on the server, and mounting the socket read-only does not change that",
        "put a socket proxy between them that passes only what is needed, or say why this one may",
    ),
    warning(
        "service.host-network",
        "a service on the host's own network",
        "it sees and may open every port of the server, those on 127.0.0.1 too, and neither `ports:` nor networks hold it back",
        "publish the ports that it needs, or say why it cannot do without",
    ),
    warning(
        "service.no-healthcheck",
        "a service without a healthcheck",
        "the gate can only see that it runs, not that it works: a broken version passes, and nothing is rolled back",
        "add `healthcheck:`; if the image brings one, allow this with that reason",
    ),
    warning(
        "service.no-memory-limit",
        "a service without a memory limit",
        "when it leaks, the kernel ends whichever process it likes, perhaps the database of another stack",
        "set `mem_limit:` or `deploy.resources.limits.memory`",
    ),
    warning(
        "service.no-restart",
        "a service without a restart policy",
        "after a crash or a reboot it stays down until somebody looks",
        "add `restart: unless-stopped`; for a job that is meant to end, `restart: \"no\"`",
    ),
    warning(
        "service.privileged",
        "a privileged service",
        "it is root on the server in all but name: every device, no confinement",
        "name what it needs instead: `cap_add:`, `devices:`",
    ),
    error(
        "stack.duplicate",
        "two stacks of one name",
        "which one is meant is not certain",
        "rename one of them, or remove one",
    ),
    error(
        "stack.file-missing",
        "a file of `evenkeel.yml` that is not in the repository",
        "the stack cannot be put together; it keeps what it runs",
        "correct the path",
    ),
    error(
        "stack.name",
        "a folder or file that would be a stack and whose name cannot be one",
        "it cannot be named anywhere, so it cannot be deployed",
        "rename the folder or file",
    ),
    error(
        "stack.project",
        "two stacks that turn out to be one Compose project",
        "one would take the other's containers for its own and remove them",
        "give each a `name:` of its own, or make them one stack in evenkeel.yml",
    ),
    error(
        "stack.unknown",
        "a stack that a list names and nobody has",
        "somebody believes that it runs",
        "correct the name, create the folder, or remove it from the list",
    ),
    warning(
        "stack.watched",
        "a watched file that is not in the repository",
        "somebody relies on its changes",
        "correct the path, or remove it from the list",
    ),
    warning(
        "tree.case",
        "two names that differ only in case",
        "on some file systems one overwrites the other",
        "rename one of them",
    ),
    info(
        "tree.submodule",
        "a submodule",
        "its files are in no commit of this repository, so no signature covers them; it is left out",
        "copy what is deployed into the repository",
    ),
    error(
        "tree.symlink",
        "a symbolic link where a file or folder of the repository is expected",
        "a link can lead out of what was signed",
        "put the file or folder itself there",
    ),
    error(
        "tree.unreadable",
        "an object of the repository that cannot be read, or passes a limit",
        "what is not readable cannot be judged or deployed",
        "check the repository with `git fsck`, and that the file is not too large",
    ),
    warning(
        "update.recreate",
        "a service that asks to be started first and cannot be",
        "its old containers are stopped before the new ones run, as without the key: it is down for a moment, and a bad version for longer",
        "remove what stands in the way (a proxy on the same network needs no published port), or write `update: recreate`",
    ),
    warning(
        "volume.options",
        "options of a volume that changed",
        "Compose ignores them for a volume that exists",
        "copy the data, remove the volume by hand and deploy again",
    ),
    error(
        "x-evenkeel.reserved",
        "a top-level key of a Compose file that begins with `x-evenkeel-`",
        "Evenkeel writes such keys into the model itself, and would take this one for its own",
        "write it under `x-evenkeel:`, or give it another name",
    ),
    error(
        "x-evenkeel.unknown-key",
        "a key of `x-evenkeel` that is not known",
        "a mistyped key is a setting that somebody believes in and nobody follows",
        "correct it or remove it",
    ),
    error(
        "x-evenkeel.value",
        "a value of `x-evenkeel` that makes no sense",
        "what was meant cannot be done",
        "correct the line that is named",
    ),
];
