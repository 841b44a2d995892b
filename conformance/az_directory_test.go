package conformance

import (
	"strings"
	"testing"
)

// TestAzDirectory: az ad, unmodified, against the directory.
func TestAzDirectory(t *testing.T) {
	w := newWorld(t, "--domain", "azad.localhost", "--hosts", "auto")
	env := append(clean(t), "AZURE_CONFIG_DIR="+t.TempDir(), "REQUESTS_CA_BUNDLE="+w.env.CABundle, "AZURE_CORE_COLLECT_TELEMETRY=no")
	if r := execute(t, env, hawser, "az-setup", "--data", w.dir); r.code != 0 {
		t.Fatalf("az-setup: %s", r.stderr)
	}
	az := func(args string) result {
		return execute(t, env, append([]string{"az"}, append(strings.Fields(args), "--only-show-errors", "--output", "tsv")...)...)
	}
	kept := map[string]string{}
	for _, c := range []struct{ keep, args, want string }{
		{"ann", "ad user create --display-name Ann --user-principal-name ann@azad.localhost --password correct-horse-1 --query id", ""},
		{"", "ad user create --display-name Bob --user-principal-name bob@azad.localhost --password correct-horse-1 --force-change-password-next-sign-in true --query userPrincipalName", "bob@azad.localhost"},
		{"", "ad user list --display-name A --query [?displayName=='Ann'].userPrincipalName", "ann@azad.localhost"},
		{"", "ad user list --upn bob@azad.localhost --query [].displayName", "Bob"},
		{"", "ad user list --filter accountEnabled~eq~true --query length(@)", "3"},
		{"", "ad user show --id ann@azad.localhost --query displayName", "Ann"},
		{"", "ad user update --id ann@azad.localhost --display-name Anna --account-enabled true", ""},
		{"", "ad user show --id {ann} --query displayName", "Anna"},
		{"group", "ad group create --display-name team --mail-nickname team --query id", ""},
		{"", "ad group create --display-name team --mail-nickname team --query displayName", "team"}, // it is found again
		{"", "ad group list --display-name te --query [].displayName", "team"},
		{"", "ad group show -g team --query mailNickname", "team"},
		{"", "ad group member add -g team --member-id {ann}", ""},
		{"", "ad group member list -g team --query [].userPrincipalName", "ann@azad.localhost"},
		{"", "ad group member check -g team --member-id {ann} --query value", "true"},
		{"", "ad user get-member-groups --id {ann} --query [].displayName", "team"},
		{"", "ad group member remove -g team --member-id {ann}", ""},
		{"", "ad group member check -g {group} --member-id {ann} --query value", "false"},
		{"", "ad group owner add -g team --owner-object-id {ann}", ""},
		{"", "ad group owner list -g team --query [].displayName", "Anna"},
		{"", "ad group owner remove -g team --owner-object-id {ann}", ""},
		{"app", "ad app create --display-name web1 --web-redirect-uris https://web1.example/cb --public-client-redirect-uris http://localhost --enable-id-token-issuance true --app-roles ROLES --required-resource-accesses ACCESS --query appId", ""},
		{"", "ad app show --id {app} --query web.redirectUris[0]", "https://web1.example/cb"},
		{"", "ad app show --id {app} --query appRoles[0].value", "Reader"},
		{"", "ad app update --id {app} --identifier-uris api://{app} --web-home-page-url https://web1.example", ""},
		{"", "ad app show --id api://{app} --query displayName", "web1"},
		{"", "ad app list --display-name web --query [].appId", "{app}"},
		{"", "ad app list --identifier-uri api://{app} --query [].displayName", "web1"},
		{"", "ad app credential reset --id {app} --display-name one --query appId", "{app}"},
		{"", "ad app credential reset --id {app} --append --display-name two --query appId", "{app}"},
		{"", "ad app credential list --id {app} --query length(@)", "2"},
		{"", "ad app owner add --id {app} --owner-object-id {ann}", ""},
		{"", "ad app owner list --id {app} --query [].displayName", "Anna"},
		{"", "ad app federated-credential create --id {app} --parameters FEDERATED --query subject", "repo:a/b"},
		{"", "ad app federated-credential list --id {app} --query [].name", "gh"},
		{"", "ad app federated-credential delete --id {app} --federated-credential-id gh", ""},
		{"sp", "ad sp create --id {app} --query id", ""},
		{"", "ad app permission add --id {app} --api 00000003-0000-0000-c000-000000000000 --api-permissions 5f8c59db-677d-491f-a6b8-5f174b11ec1d=Scope df021288-bdef-4463-88db-98f22de89214=Role", ""},
		{"", "ad app permission list --id {app} --query length([0].resourceAccess)", "3"},
		{"", "ad app permission grant --id {app} --api 00000003-0000-0000-c000-000000000000 --scope User.Read --query scope", "User.Read"},
		{"", "ad app permission list-grants --id {app} --query [].consentType", "AllPrincipals"},
		{"", "ad sp show --id {app} --query servicePrincipalType", "Application"},
		{"", "ad sp show --id {sp} --query appId", "{app}"},
		{"", "ad sp list --display-name web1 --query [].id", "{sp}"},
		{"", "ad sp list --spn 00000003-0000-0000-c000-000000000000 --query [].displayName", "Microsoft~Graph"},
		{"", "ad sp update --id {sp} --set appRoleAssignmentRequired=true", ""},
		{"", "ad sp show --id {sp} --query appRoleAssignmentRequired", "true"},
		{"", "ad sp credential reset --id {app} --query appId", "{app}"},
		{"", "ad sp credential list --id {app} --query length(@)", "1"},
		{"", "ad sp owner list --id {sp}", ""},
		{"", "ad sp create-for-rbac -n robot --query displayName", "robot"},
		{"", "ad sp delete --id {sp}", ""},
		{"", "ad app delete --id {app}", ""},
		{"", "ad app list --display-name web1 --query [].appId", ""},
		{"", "ad group delete -g team", ""},
		{"", "ad user delete --id {ann}", ""},
		{"", "ad user list --upn ann@azad.localhost --query [].id", ""},
	} {
		words := strings.Fields(c.args)
		for i := range words {
			words[i] = fillArgument(words[i], kept)
		}
		r := execute(t, env, append([]string{"az"}, append(words, "--only-show-errors", "--output", "tsv")...)...)
		got, want := strings.TrimSpace(r.stdout), fillArgument(c.want, kept)
		if r.code != 0 || c.keep == "" && got != want || c.keep != "" && got == "" {
			t.Errorf("az %s: %q, want %q\n%s", c.args, got, want, r.stderr)
		}
		if c.keep != "" {
			kept[c.keep] = got
		}
	}
	// What is refused is said in az's words.
	if r := az("ad user show --id nobody@azad.localhost"); r.code == 0 || !strings.Contains(r.stderr, "does not exist") {
		t.Errorf("a missing user: exit status %d, %s", r.code, r.stderr)
	}
	// A person's own token: what the person may, and no more.
	who := w.people("Dee")[0]
	w.assign("Reader", who.ID, "/subscriptions/"+w.env.SubscriptionID)
	w.azLogin(t, env, who)
	for _, c := range []struct{ args, want string }{
		{"ad signed-in-user show --query userPrincipalName", who.UPN}, {"ad user show --id bob@azad.localhost --query displayName", "Bob"},
		{"ad signed-in-user list-owned-objects", ""},
	} {
		if r := az(c.args); r.code != 0 || strings.TrimSpace(r.stdout) != c.want {
			t.Errorf("az %s: %q, want %q\n%s", c.args, r.stdout, c.want, r.stderr)
		}
	}
	if r := az("ad user delete --id bob@azad.localhost"); r.code == 0 || !strings.Contains(r.stderr, "Insufficient privileges") {
		t.Errorf("a reader deletes somebody: exit status %d, %s", r.code, r.stderr)
	}
}

// fillArgument writes what was kept, and the longer arguments, into a word. A space
// inside of one is written as a tilde.
func fillArgument(word string, kept map[string]string) string {
	for k, v := range kept {
		word = strings.ReplaceAll(word, "{"+k+"}", v)
	}
	return strings.NewReplacer("~", " ",
		"ROLES", `[{"allowedMemberTypes":["User"],"description":"read","displayName":"Readers","isEnabled":true,"value":"Reader"}]`,
		"ACCESS", `[{"resourceAppId":"00000003-0000-0000-c000-000000000000","resourceAccess":[{"id":"e1fe6dd8-ba31-4d61-89e7-88639da4683d","type":"Scope"}]}]`,
		"FEDERATED", `{"name":"gh","issuer":"https://token.actions.githubusercontent.com","subject":"repo:a/b","audiences":["api://AzureADTokenExchange"]}`).Replace(word)
}
