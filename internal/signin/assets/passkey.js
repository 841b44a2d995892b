// Passkeys: turns what the page holds into a question to the browser and puts
// the answer into the form. It is the only script that sign-in needs.
"use strict";
(function () {
  function bytes(text) {
    var s = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(s, function (c) { return c.charCodeAt(0); }).buffer;
  }
  function text(buffer) {
    return btoa(String.fromCharCode.apply(null, new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }
  function listed(list) {
    return (list || []).map(function (c) { return Object.assign({}, c, { id: bytes(c.id) }); });
  }
  function question(form) {
    var o = JSON.parse(form.dataset.get || form.dataset.create);
    o.challenge = bytes(o.challenge);
    if (form.dataset.get) {
      o.allowCredentials = listed(o.allowCredentials);
      return navigator.credentials.get({ publicKey: o });
    }
    o.user.id = bytes(o.user.id);
    o.excludeCredentials = listed(o.excludeCredentials);
    return navigator.credentials.create({ publicKey: o });
  }
  function answer(c) {
    var r = c.response, out = { clientDataJSON: text(r.clientDataJSON) };
    if (r.attestationObject) {
      out.attestationObject = text(r.attestationObject);
      out.transports = r.getTransports ? r.getTransports() : [];
    } else {
      out.authenticatorData = text(r.authenticatorData);
      out.signature = text(r.signature);
      if (r.userHandle) { out.userHandle = text(r.userHandle); }
    }
    return JSON.stringify({ id: c.id, rawId: text(c.rawId), type: c.type, response: out,
      authenticatorAttachment: c.authenticatorAttachment || undefined, clientExtensionResults: c.getClientExtensionResults() });
  }
  document.querySelectorAll("form.passkey").forEach(function (form) {
    var button = form.querySelector("button"), say = form.querySelector("[role=status]");
    if (!window.PublicKeyCredential) {
      say.textContent = "This browser knows no passkeys.";
      return;
    }
    button.disabled = false;
    button.addEventListener("click", function () {
      button.disabled = true;
      say.textContent = "Waiting for your passkey…";
      question(form).then(function (c) {
        form.elements.response.value = answer(c);
        form.submit();
      }).catch(function () {
        button.disabled = false;
        say.textContent = "That did not work. Try again, or use another way.";
      });
    });
  });
})();
