package site

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// checkName answers whether an app may be given a name.
func (s *Sites) checkName(ctx context.Context, call *arm.Call) (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	type answer struct {
		Available bool   `json:"nameAvailable"`
		Reason    string `json:"reason"`
		Message   string `json:"message"`
	}
	if !validSiteName(in.Name) {
		return answer{Reason: "Invalid", Message: "The name must have 2 to 60 letters, digits and dashes, with no dash at either end."}, nil
	}
	holder, _, err := s.cfg.Store.Meta(ctx, nameKey(in.Name))
	if err != nil {
		return nil, err
	}
	if len(holder) > 0 {
		return answer{Reason: "AlreadyExists", Message: "Hostname '" + in.Name + "' already exists. Please select a different name."}, nil
	}
	return answer{Available: true}, nil
}

// stacks lists runtime stacks, which az asks for before it makes an app. Here
// an app runs whatever program its owner starts: the list has what clients ask
// for by name, and no version is ever refused.
func stacks(context.Context, *arm.Call) (any, error) {
	type stack struct{ name, text, version, runtime string }
	var out []any
	for _, st := range []stack{
		{"dotnet", ".NET", "8", "DOTNETCORE|8.0"}, {"node", "Node", "20", "NODE|20-lts"},
		{"python", "Python", "3.11", "PYTHON|3.11"}, {"python", "Python", "3.10", "PYTHON|3.10"},
		{"java", "Java", "17", "JAVA|17-java17"}, {"go", "Go", "1.19", "GO|1.19"}, {"php", "PHP", "8.2", "PHP|8.2"},
	} {
		out = append(out, map[string]any{
			"id": "/providers/Microsoft.Web/webAppStacks/" + st.name, "name": st.name, "type": "Microsoft.Web/webAppStacks",
			"properties": map[string]any{"displayText": st.text, "value": st.name, "preferredOs": "linux",
				"majorVersions": []any{map[string]any{"displayText": st.text + " " + st.version, "value": st.version,
					"minorVersions": []any{map[string]any{"displayText": st.text + " " + st.version, "value": st.version,
						"stackSettings": map[string]any{"linuxRuntimeSettings": linuxRuntime(st.runtime)}}}}}}})
	}
	return map[string]any{"value": out, "nextLink": nil}, nil
}

func linuxRuntime(version string) map[string]any {
	no := map[string]any{"isSupported": false}
	return map[string]any{"runtimeVersion": version, "isHidden": false, "isPreview": false, "isDeprecated": false,
		"remoteDebuggingSupported": false, "appInsightsSettings": no, "gitHubActionSettings": no}
}

// shownReference is a reference's status on the wire: ApiKVReference
// (wire/app-settings.md §2).
type shownReference struct {
	ID         az.ID               `json:"id"`
	Name       string              `json:"name"`
	Type       string              `json:"type"`
	Location   string              `json:"location,omitempty"`
	Properties shownReferenceProps `json:"properties"`
}

type shownReferenceProps struct {
	Reference     string         `json:"reference"`
	Status        Status         `json:"status"`
	VaultName     string         `json:"vaultName,omitempty"`
	SecretName    string         `json:"secretName,omitempty"`
	SecretVersion string         `json:"secretVersion,omitempty"`
	ActiveVersion string         `json:"activeVersion,omitempty"`
	IdentityType  *shownIdentity `json:"identityType,omitempty"`
	Details       string         `json:"details"`
	Source        string         `json:"source"`
}

type shownIdentity struct {
	Type        string           `json:"type"`
	PrincipalID string           `json:"principalId,omitempty"`
	Users       map[string]empty `json:"userAssignedIdentities,omitempty"`
}

type empty struct{}

// referenceRoute answers with the statuses of a site's references, or of one.
// The right to read the configuration was checked by the front door.
func (s *Sites) referenceRoute(kind string) func(context.Context, *arm.Call) (any, error) {
	return func(ctx context.Context, call *arm.Call) (any, error) {
		return s.references(ctx, call, kind)
	}
}

// refreshRoute reads every reference anew and answers as the list does.
func (s *Sites) refreshRoute(kind string) func(context.Context, *arm.Call) (any, error) {
	return func(ctx context.Context, call *arm.Call) (any, error) {
		if snap := s.valid(call.ID); snap != nil {
			s.hub.fire(snap.watch)
		}
		return s.references(ctx, call, kind)
	}
}

func (s *Sites) references(ctx context.Context, call *arm.Call, kind string) (any, error) {
	r, err := s.load(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	snap := s.valid(r.ID)
	if snap == nil || snap.passing {
		if _, snap, err = s.make(ctx, r); err != nil {
			return nil, err
		}
	}
	value := []*shownReference{}
	for i := range snap.refs {
		if st := &snap.refs[i]; st.kind == kind {
			value = append(value, showReference(r.ID, r.Location, st))
		}
	}
	key := call.Param("key")
	if key == "" {
		return map[string]any{"value": value, "nextLink": nil}, nil
	}
	for _, v := range value {
		if v.Name == key {
			return v, nil
		}
	}
	return nil, az.Errorf(az.NotFound, "NotFound", "The app '%s' has no Key Vault reference under this name.", r.ID.Name())
}

func showReference(site az.ID, location string, st *ReferenceStatus) *shownReference {
	p := shownReferenceProps{Reference: st.Reference, Status: st.Status, VaultName: st.ref.Vault, SecretName: st.ref.Secret,
		SecretVersion: st.ref.Version, ActiveVersion: st.active, Details: st.Details, Source: "KeyVault"}
	if st.by.PrincipalID != "" {
		p.IdentityType = &shownIdentity{Type: arm.IdentitySystem}
		if !st.by.ID.IsRoot() {
			p.IdentityType = &shownIdentity{Type: arm.IdentityUser, Users: map[string]empty{st.by.ID.String(): {}}}
		}
	}
	return &shownReference{ID: site.Child("config", "configreferences", st.kind, st.Name), Name: st.Name,
		Type: Type + "/config", Location: location, Properties: p}
}
