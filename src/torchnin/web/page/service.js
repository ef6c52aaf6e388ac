// The server that gave this page, and nothing else.

/** What the server could not do, in its own sentence. */
export class Refused extends Error {}

/** The server wants a token, and was given none or a wrong one. */
export class Unknown extends Error {}

let token = kept();

function kept() {
  try {
    return sessionStorage.getItem("token");
  } catch {
    return null; // a browser that keeps nothing shows the page all the same
  }
}

/** Send this token from now on, until the window is closed. */
export function keepToken(given) {
  token = given;
  try {
    sessionStorage.setItem("token", given);
  } catch {
    // as above
  }
}

async function answer(path, options = {}) {
  if (token && !/^[\x20-\x7e]+$/.test(token)) throw new Unknown(); // no header can carry it
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response.json();
  if (response.status === 401) throw new Unknown();
  const told = await response.json().catch(() => ({}));
  throw new Refused(told.error || told.detail || response.statusText);
}

export const network = () => answer("v1/model");
export const samples = () => answer("v1/samples");

/** Asks what the network makes of pictures: one question at a time, and of those that wait only the newest. */
export class Explainer {
  constructor({ answered, failed }) {
    this.answered = answered;
    this.failed = failed;
    this.busy = false;
    this.next = null;
  }

  /** `picture` gives the bytes when they are needed; `layers` asks for the maps of every layer; `about` comes back with the answer. `about.instead` goes before a new picture that waits. */
  ask(picture, { layers, about }) {
    if (this.next?.about.fresh && !about.fresh && !about.instead) return; // a new picture is on its way; what was done to the old one is past
    this.next = { picture, layers, about };
    if (!this.busy) this.work();
  }

  async work() {
    this.busy = true;
    while (this.next) {
      const { picture, layers, about } = this.next;
      this.next = null;
      try {
        const file = await picture();
        const headers = { "content-type": file.type || "application/octet-stream" };
        const told = await answer(`v1/explain?layers=${layers}`, { method: "POST", body: await file.arrayBuffer(), headers });
        // Of an answer without layers the newer one is shown all the same: that is what makes wiping live.
        this.answered(told, about);
      } catch (error) {
        this.failed(error);
      }
    }
    this.busy = false;
  }
}
