package signin

// LeavePage asks whether the person wants to sign out: for requests that could
// come from anywhere. The answer is the field answer: accept or decline.
type LeavePage struct{ State, Action string }

func (p LeavePage) about() about { return about{template: "leave", title: "Sign out?"} }
