(() => {
  const live = document.getElementById("main");
  const sign = document.getElementById("stream");
  const ids = (root) => Array.from(root.querySelectorAll("[id]"), (it) => it.id).join(" ");
  const say = (word) => { sign.hidden = false; sign.textContent = word; sign.className = word.split(" ")[0]; };
  // Only what differs is replaced, so that focus, selection and what was opened stay.
  const swap = (old, next) => {
    if (old.outerHTML === next.outerHTML) return;
    const open = old.querySelector("details[open]") !== null;
    const details = next.querySelector("details");
    if (open && details) details.open = true;
    if (old.outerHTML === next.outerHTML || old.contains(document.activeElement)) return;
    old.replaceWith(next);
  };
  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html").body;
    if (ids(live) !== ids(next)) { live.replaceChildren(...next.childNodes); return; }
    for (const card of next.querySelectorAll(".summary, .alarm, .card")) {
      swap(document.getElementById(card.id), document.importNode(card, true));
    }
  };
  const source = new EventSource("/events/page");
  source.onopen = () => say("live");
  source.onerror = () => say("lost the connection, trying again");
  source.onmessage = (event) => show(event.data);
})();
