// Keeps the open page up to date: when the server says that something changed, the page is fetched again and what differs
// is put in place. Without this script the page is whole, and reloads once a minute.
"use strict";
(() => {
  const parts = new Map();
  const link = document.getElementById("link");
  const live = document.getElementById("live");
  let asked = false;
  let again = false;

  const remember = () => {
    for (const part of document.querySelectorAll("[data-part]")) parts.set(part.id, part.innerHTML);
  };

  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  const ago = (then) => {
    const seconds = Math.round((then - Date.now()) / 1000);
    if (Math.abs(seconds) < 5) return "just now";
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size);
    return relative.format(Math.trunc(seconds / size), unit);
  };

  // Times are written for who reads: how long ago, and the moment on this clock when pointed at.
  const tellTimes = () => {
    for (const time of document.querySelectorAll("time")) {
      const then = Date.parse(time.dateTime);
      if (Number.isNaN(then)) continue;
      time.title = full.format(then);
      if (!("fixed" in time.dataset)) time.textContent = ago(then);
    }
  };

  const replace = (part, next) => {
    const open = [...part.querySelectorAll("details[open]")].map((details) => details.id);
    const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceChildren(...next.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (asked) { again = true; return; }
    asked = true;
    try {
      const answer = await fetch("/", { cache: "no-store" });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const before = document.title;
      for (const part of document.querySelectorAll("[data-part]")) {
        const next = fresh.getElementById(part.id);
        if (!next || next.innerHTML === parts.get(part.id)) continue;
        parts.set(part.id, next.innerHTML);
        replace(part, next);
      }
      document.title = fresh.title;
      if (before !== fresh.title) live.textContent = document.getElementById("headline").textContent;
      tellTimes();
      connected(true);
    } catch {
      connected(false);
    } finally {
      asked = false;
      if (again) { again = false; refresh(); }
    }
  };

  let lost = 0;
  const connected = (is) => {
    if (is) { lost = 0; link.hidden = true; return; }
    if (lost) return;
    lost = Date.now();
    link.textContent = `No connection to the agent. This is what it said at ${new Date().toLocaleTimeString()}.`;
    link.hidden = false;
  };

  const listen = () => {
    const events = new EventSource("/events");
    let opened = false;
    events.addEventListener("open", () => { if (opened || lost) refresh(); opened = true; });
    events.addEventListener("changed", refresh);
    events.addEventListener("error", () => {
      // A stream that ends is opened again by the browser; one that was refused is not.
      if (events.readyState !== EventSource.CLOSED) { setTimeout(() => { if (events.readyState !== EventSource.OPEN) connected(false); }, 5000); return; }
      setTimeout(() => { refresh(); listen(); }, 30000);
    });
  };

  remember();
  tellTimes();
  setInterval(tellTimes, 15000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  listen();
})();
