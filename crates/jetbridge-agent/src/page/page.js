(() => {
  const live = document.getElementById("main");
  const sign = document.getElementById("stream");
  const STOPS = "a[href], summary, [tabindex]";
  const ids = (root) => Array.from(root.querySelectorAll("[id]"), (it) => it.id).join(" ");
  const say = (word) => { sign.hidden = false; sign.textContent = word; sign.className = word.split(" ")[0]; };
  // Where the focus is, by the nearest name and the place below: the element itself is replaced.
  const place = () => {
    const holder = document.activeElement.closest("#main [id]");
    return holder && [holder.id, [...holder.querySelectorAll(STOPS)].indexOf(document.activeElement)];
  };
  const go = ([id, at]) => document.getElementById(id)?.querySelectorAll(STOPS)[at]?.focus({ preventScroll: true });
  const reopen = (old, next) => {
    const details = next?.querySelector("details");
    if (details && old.querySelector("details[open]")) details.open = true;
  };
  // Only what differs is replaced, so that selection stays.
  const swap = (old, next) => {
    reopen(old, next);
    if (old.outerHTML !== next.outerHTML) old.replaceWith(next);
  };
  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html").body;
    const focus = place();
    if (ids(live) === ids(next)) {
      for (const card of next.querySelectorAll(".summary, .alarm, .card")) {
        swap(document.getElementById(card.id), document.importNode(card, true));
      }
    } else {
      for (const old of live.querySelectorAll(".card")) reopen(old, next.querySelector("#" + CSS.escape(old.id)));
      live.replaceChildren(...next.childNodes);
    }
    if (focus && !live.contains(document.activeElement)) go(focus);
  };
  const source = new EventSource("/events/page");
  source.onopen = () => say("live");
  source.onerror = () => say("lost the connection, trying again");
  source.onmessage = (event) => show(event.data);
})();
