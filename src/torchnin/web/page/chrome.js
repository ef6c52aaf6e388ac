// What both pages share: the switches of language and colours.

import { setLanguage } from "./words.js";

const kept = {
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // a browser that keeps nothing shows the page all the same
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // as above
    }
  },
};

/** Wire the switches; `recoloured()` is called when light has become dark or the other way round. */
export function switches({ recoloured }) {
  const theme = (choice) => {
    document.documentElement.dataset.theme = choice;
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
  };
  theme(kept.get("theme") ?? "auto");
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.addEventListener("click", () => {
      kept.set("theme", button.dataset.themeChoice);
      theme(button.dataset.themeChoice);
      recoloured();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recoloured);
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => {
      kept.set("language", button.dataset.language);
      setLanguage(button.dataset.language);
    });
  }
  setLanguage(kept.get("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
}
