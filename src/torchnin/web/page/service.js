// The server that gave this page, and nothing else.

/** What the server could not do, in its own sentence. */
export class Refused extends Error {}

/** The server wants a token, and was given none or a wrong one: `given` says which. */
export class Unknown extends Error {
  constructor(given) {
    super();
    this.given = given;
  }
}

/** The server said nothing, or broke off. */
export class Silent extends Error {}

/** A picture whose bytes the browser does not get, such as a folder that was dropped. */
export class Unreadable extends Error {}

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

/** What the server says, and as `model` of which classifier, where it says that. */
async function answer(path, options = {}) {
  if (token && !/^[\x20-\x7e]+$/.test(token)) throw new Unknown(true); // no header can carry it
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers }).catch(silent);
  if (response.ok) return { ...(await response.json().catch(silent)), model: response.headers.get("torchnin-model") };
  if (response.status === 401) throw new Unknown(Boolean(token));
  const told = await response.json().catch(() => ({}));
  // Without a sentence it is a proxy that answers: that it reaches no service, or that the body is too large for it.
  if (!told.error && response.status >= 500) throw new Silent();
  throw new Refused(told.error || `HTTP ${response.status} ${response.statusText}`.trim()); // there is no text in HTTP/2
}

function silent() {
  throw new Silent();
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
    this.unknown = null; // what was refused for want of a token
  }

  /** Ask again what was refused for want of a token. */
  again() {
    if (this.unknown && !this.next) this.ask(this.unknown.picture, this.unknown);
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
      const asked = this.next;
      this.next = this.unknown = null;
      try {
        // Of an answer without layers the newer one is shown all the same: that is what makes wiping live.
        this.answered(await this.#explained(asked), asked.about, asked.picture);
      } catch (error) {
        if (error instanceof Unknown) this.unknown = asked;
        this.failed(error);
      }
    }
    this.busy = false;
  }

  async #explained({ picture, layers }) {
    let body;
    try {
      body = await (await picture()).arrayBuffer();
    } catch {
      throw new Unreadable();
    }
    // Browsers tell the type of a file by its name, which may be wrong; the server looks into it.
    const headers = { "content-type": "application/octet-stream" };
    return answer(`v1/explain?layers=${layers}`, { method: "POST", body, headers });
  }
}
