// Passkeys need the browser's help; all else works without this script.
"use strict";

const post = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) {
    const problem = JSON.parse(text);
    throw new Error([problem.detail, problem.help].filter(Boolean).join(": "));
  }
  return text ? JSON.parse(text) : undefined;
};

const add = async (form) => {
  const begun = await post("/api/v1/session/passkey-registration");
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.options);
  const credential = await navigator.credentials.create({ publicKey });
  const name = new FormData(form).get("name");
  await post("/api/v1/session/passkeys",
    { ceremony: begun.ceremony, name, answer: credential.toJSON() });
  location.assign("/account");
};

const signIn = async () => {
  const begun = await post("/api/v1/session/passkey-challenge");
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.options);
  const credential = await navigator.credentials.get({ publicKey });
  await post("/login/passkey", { ceremony: begun.ceremony, answer: credential.toJSON() });
  location.assign("/");
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.hidden = !window.PublicKeyCredential?.parseCreationOptionsFromJSON;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = form.querySelector("[role=alert]");
    said.textContent = "";
    try {
      await (form.dataset.passkey === "add" ? add(form) : signIn());
    } catch (error) {
      said.textContent = error.name === "NotAllowedError" ? "Nothing was chosen." : error.message;
    }
  });
}
