//! Compose files that scenarios share, on the busybox images that `docker/base-image.sh` makes.

/// A page behind a healthcheck: the file `index.html` beside the Compose file, served on `port` of the loopback address.
/// `image` is 1, 2 or 3.
pub fn web(image: u8, port: u16) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [httpd, -f, -p, '80', -h, /www]
    ports: ['127.0.0.1:{port}:80']
    volumes: ['./index.html:/www/index.html:ro']
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/']
      interval: 500ms
      timeout: 2s
      retries: 3
      start_period: 5s
"
    )
}

/// A service named `app` without ports or a healthcheck that only sleeps.
pub fn sleeper(image: u8) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [sleep, '100000']
"
    )
}

/// The page of [`web`] with a healthcheck that always fails.
pub fn sick_web(image: u8, port: u16) -> String {
    let well = web(image, port);
    let (before, _) = well.split_once("    healthcheck:").expect("the text above has one");
    format!("{before}    healthcheck: {{ test: [CMD, 'false'], interval: 500ms, timeout: 2s, retries: 2 }}\n")
}

/// A service named `app` that becomes healthy only after about `seconds`: time to interfere with a deployment.
pub fn slow(image: u8, seconds: u32) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [sh, -c, 'sleep {seconds}; touch /ready; exec sleep 100000']
    healthcheck: {{ test: [CMD, test, -e, /ready], interval: 500ms, timeout: 2s, retries: 2, start_period: 60s }}
"
    )
}

/// A service named `app` that ignores SIGTERM, so that replacing it takes about `seconds`.
pub fn stubborn(image: u8, seconds: u32) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    command: [sh, -c, 'trap \"\" TERM; while true; do sleep 1; done']
    stop_grace_period: {seconds}s
"
    )
}

/// Bytes that cannot be compressed.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}
