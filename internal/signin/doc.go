// Package signin is how people prove to the plane who they are: its pages,
// passwords, one-time codes, passkeys, an outside OpenID Connect provider, the
// sessions of browsers, and what slows down those who guess.
//
// It issues no tokens and knows no OAuth clients: authority says what it needs
// (Ask) and gets a session (Redeem). It decides no rights.
//
// Open signin.go first, then flow.go (the way from a name to a session),
// browser.go (what binds a page to a browser) and lockout.go.
//
// # Names that tests and password managers may rely on
//
// Every form carries a hidden input "state"; every page has one h1, and what
// went wrong stands in an element with role="alert".
//
//	page                 form (id, action)                     inputs and buttons
//	account name         signin-name /signin/name              loginfmt; button #next
//	                     signin-passkey /signin/passkey        response (hidden); button #use-passkey
//	                     signin-provider /signin/provider      button #use-provider
//	password             signin-password /signin/password      passwd, keep (checkbox); button #next
//	                     signin-other /signin/password         button "Not you?"
//	one-time code        signin-code /signin/code              otc; button #next
//	                     signin-passkey as above
//	choose an account    signin-pick /signin/pick              buttons name="account" (object id, or "" for another)
//	new password         signin-change /signin/change          passwd, newpasswd, confirmpasswd; button #next
//	set up codes         signin-enrol /signin/enrol            otc; button #next; the secret is the text of #secret
//	set up a passkey     passkey-add /signin/enrol-passkey     response (hidden), label; button #add-passkey
//	back to the app      none                                  link #continue (browsers follow by themselves)
//	consent              consent, action is authority's        buttons name="answer" (accept, decline), checkbox admin
//	device code          device, action is authority's         user_code, or buttons name="answer"
//	form_post            form-post, action is the client's     the client's; button #next (submitted by script)
//	signed out           none                                  link #continue
//	error                none                                  #code, #correlation, #time
//	/account             account-password /account/password    passwd, newpasswd, confirmpasswd
//	                     account-totp /account/totp            button #add-totp; then otc at /account/totp/confirm
//	                     totp-remove /account/totp/remove      button
//	                     passkey-begin /account/passkey        button; then passkey-add /account/passkey/add
//	                     passkey-remove /account/passkey/remove  button name="id"
//	                     session-end /account/session/end      button name="id"
//	                     account-signout /account/signout      button
//	                     everywhere /account/everywhere        button
package signin
