// Passkeys need the browser's help, and pages that go on show it; all else works without this script.
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

const bytes = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));

const instant = (local) => new Date(local).toISOString();

// Registers one of one's own passkeys as the first key of one's tenant.
const key = async (form) => {
  const passkey = new FormData(form).get("passkey");
  await post(`/api/v1/keys/${form.dataset.tenant}/passkey`, { passkey });
  location.reload();
};

// Answers a plan: the statement is made up by the server, which checks what comes back of it.
const consent = async (form) => {
  const { plan, is, until, reason, risk_owner, expiry } = Object.fromEntries(new FormData(form));
  const decision = { is };
  if (until) decision.until = instant(until);
  if (expiry) decision.acceptance = { reason, risk_owner, expiry: instant(expiry) };
  const answer = `/api/v1/obligations/${form.dataset.change}/${form.dataset.tenant}/answer`;
  const begun = await post(`${answer}/passkey`, { plan, decision });
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.options);
  const credential = await navigator.credentials.get({ publicKey });
  const { authenticatorData, clientDataJSON, signature } = credential.response;
  const signer = begun.keys.find((it) => it.credential === credential.id);
  await post(answer, {
    payload: begun.payload,
    payloadType: begun.payload_type,
    assertion: {
      keyid: signer.key,
      authenticatorData: bytes(authenticatorData),
      clientDataJSON: bytes(clientDataJSON),
      signature: bytes(signature),
    },
  });
  location.reload();
};

const ceremonies = { add, "sign-in": signIn, key, consent };

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.hidden = !window.PublicKeyCredential?.parseCreationOptionsFromJSON;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = form.querySelector("[role=alert]");
    said.textContent = "";
    try {
      await ceremonies[form.dataset.passkey](form);
    } catch (error) {
      said.textContent = error.name === "NotAllowedError" ? "Nothing was chosen." : error.message;
    }
  });
}

// What is under way is shown as it goes on, while somebody looks.
const goOn = async () => {
  if (document.hidden) return;
  const answer = await fetch(location.href).catch(() => undefined);
  if (!answer?.ok) return;
  const now = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const shown = document.querySelector("main");
  if (now && now.innerHTML !== shown.innerHTML) shown.innerHTML = now.innerHTML;
  if (!now?.querySelector("[data-goes-on]")) clearInterval(goingOn);
};
const goingOn = document.querySelector("[data-goes-on]") ? setInterval(goOn, 3000) : undefined;
