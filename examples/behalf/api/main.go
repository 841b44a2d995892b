// Command api is the second app: an API behind built-in authentication. It gets
// a token of the signed-in person, and acts as that person towards Microsoft
// Graph and towards PostgreSQL, by the on-behalf-of flow of MSAL.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/jackc/pgx/v5"
)

// databaseScope is the scope of Azure Database for PostgreSQL.
const databaseScope = "https://ossrdbms-aad.database.windows.net/user_impersonation"

type api struct {
	msal  confidential.Client
	graph string // origin of Microsoft Graph
	dsn   string // the database, without user and password
}

// profile is what Graph says of the signed-in person.
type profile struct {
	DisplayName       string `json:"displayName"`
	UserPrincipalName string `json:"userPrincipalName"`
}

// order is a row that row-level security lets the person see.
type order struct {
	ID    int    `json:"id"`
	Item  string `json:"item"`
	Owner string `json:"owner"`
}

type answer struct {
	Profile profile `json:"profile"`
	Role    string  `json:"role"` // who the database says is asking
	Rows    []order `json:"rows"`
}

func main() {
	authority := strings.TrimSuffix(os.Getenv("WEBSITE_AUTH_OPENID_ISSUER"), "/v2.0")
	cred, err := confidential.NewCredFromSecret(os.Getenv("MICROSOFT_PROVIDER_AUTHENTICATION_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	client, err := confidential.New(authority, os.Getenv("WEBSITE_AUTH_CLIENT_ID"), cred, confidential.WithInstanceDiscovery(false))
	if err != nil {
		log.Fatal(err)
	}
	a := &api{msal: client, graph: os.Getenv("GRAPH_URL"), dsn: os.Getenv("DATABASE_URL")}
	http.HandleFunc("GET /orders", a.orders)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func (a *api) orders(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	// Built-in authentication has verified the token before it came here.
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	out, err := a.answer(ctx, token)
	if err != nil {
		log.Print(err)
		http.Error(w, "the orders could not be read; the log says why", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func (a *api) answer(ctx context.Context, userToken string) (answer, error) {
	var out answer
	var err error
	if out.Profile, err = a.me(ctx, userToken); err != nil {
		return out, err
	}
	out.Role, out.Rows, err = a.rows(ctx, userToken, out.Profile.UserPrincipalName)
	return out, err
}

// me asks Graph who the person is.
func (a *api) me(ctx context.Context, userToken string) (p profile, err error) {
	t, err := a.msal.AcquireTokenOnBehalfOf(ctx, userToken, []string{"https://graph.microsoft.com/User.Read"})
	if err != nil {
		return p, fmt.Errorf("no token for Graph: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.graph+"/v1.0/me", nil)
	if err != nil {
		return p, err
	}
	req.Header.Set("Authorization", "Bearer "+t.AccessToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return p, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("answer of Graph: %s: %s", res.Status, body)
	}
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(body, &p)
}

// rows reads the orders as the person: which ones, the database decides.
func (a *api) rows(ctx context.Context, userToken, upn string) (role string, rows []order, err error) {
	t, err := a.msal.AcquireTokenOnBehalfOf(ctx, userToken, []string{databaseScope})
	if err != nil {
		return "", nil, fmt.Errorf("no token for the database: %w", err)
	}
	u, err := url.Parse(a.dsn)
	if err != nil {
		return "", nil, err
	}
	u.User = url.UserPassword(upn, t.AccessToken)
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := conn.QueryRow(ctx, "select current_user").Scan(&role); err != nil {
		return "", nil, err
	}
	found, err := conn.Query(ctx, "select id, item, owner from orders order by id")
	if err != nil {
		return "", nil, err
	}
	rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[order])
	return role, rows, err
}
