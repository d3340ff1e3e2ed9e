// Keeps the dashboard up to date and its place while buttons are used; without this script it is forms and reloads.

const REFRESH_MILLISECONDS = 3000;

const find = (id) => document.getElementById(id);

/** Puts the fresh items of a list in, and leaves alone those that are the same: what is being typed there stays. */
function renewList(shown, fresh) {
  const wanted = [...fresh.children];
  const ids = new Set(wanted.map(({ id }) => id));
  for (const item of [...shown.children]) if (!ids.has(item.id)) item.remove();
  wanted.forEach((item, place) => {
    const known = find(item.id);
    if (!known) shown.insertBefore(item, shown.children[place] ?? null);
    else if (!known.isEqualNode(item)) known.replaceWith(item);
  });
}

function renew(fresh) {
  for (const part of fresh.querySelectorAll("[data-live]")) {
    const shown = find(part.id);
    if (part.dataset.live === "list") renewList(shown, part);
    else if (!shown.isEqualNode(part)) shown.replaceWith(part);
  }
}

async function load(address, options) {
  const response = await fetch(address, options);
  if (!response.ok) throw new Error(`${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

// A refresh that was asked before a button was used must not show the state of before.
let actsSoFar = 0;
let isActing = false;

async function refresh() {
  const actsBefore = actsSoFar;
  try {
    const fresh = await load("/");
    if (actsBefore === actsSoFar) renew(fresh);
    find("lost").hidden = true;
  } catch {
    find("lost").hidden = false;
  }
}

async function act(address, fields) {
  isActing = true;
  actsSoFar += 1;
  try {
    const fresh = await load(address, { method: "POST", body: new URLSearchParams(fields) });
    renew(fresh);
    find("problem").replaceWith(fresh.getElementById("problem"));
    find("lost").hidden = true;
  } catch {
    find("lost").hidden = false;
  } finally {
    isActing = false;
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const { target: form, submitter } = event;
  if (!isActing) act(submitter?.hasAttribute("formaction") ? submitter.formAction : form.action, new FormData(form, submitter));
});

// The address of a refused act says so on every reload; once it has been read it has done its work.
history.replaceState(null, "", location.pathname + location.hash);
setInterval(() => document.hidden || isActing || refresh(), REFRESH_MILLISECONDS);
