package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// APIVersion is sent with ARM requests whose path names none.
const APIVersion = "2024-04-01"

// Error is a refusal by the plane: its status, its code and its sentence.
type Error struct {
	Status     int
	Code       string
	Message    string
	RetryAfter time.Duration // 0 if the plane gave none
	RequestID  string        // the plane's correlation id
}

func (e *Error) Error() string {
	switch {
	case e.Code == "" && e.Message == "":
		return "the plane answered " + strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)
	case e.Code == "":
		return e.Message
	}
	return e.Code + ": " + e.Message
}

// IsStatus reports whether err is a refusal by the plane with that status.
func IsStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

// Do sends a request to the plane's management host. in is sent as JSON if it
// is not nil (a []byte goes as it is), the answer is decoded into out if that
// is not nil (a *[]byte takes it as it is). A refusal is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	if !strings.Contains(path, "api-version=") {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "api-version=" + APIVersion
	}
	return c.DoHost(ctx, "management."+c.plane.Domain, method, path, in, out)
}

// DoHost is Do for any other host of the plane, such as
// "kv1.vault." + c.Plane().Domain; the path is sent as it is.
func (c *Client) DoHost(ctx context.Context, host, method, path string, in, out any) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("cannot ask for %q: a path starts with a slash", path)
	}
	if !strings.HasSuffix(host, "."+c.plane.Domain) || strings.ContainsAny(host, "/@:?#") {
		return fmt.Errorf("cannot ask %q: not a host of the plane's domain %s", host, c.plane.Domain)
	}
	if c.socket {
		return c.send(ctx, method, "http://"+host+path, "", in, out)
	}
	scope := c.scopeOf(host)
	var token string
	if scope != "" {
		var err error
		if token, err = c.bearer(ctx, scope); err != nil {
			return err
		}
	}
	err := c.send(ctx, method, "https://"+host+portOf(c.address)+path, token, in, out)
	if token != "" && IsStatus(err, http.StatusUnauthorized) {
		c.forget(scope, token)
	}
	return err
}

func (c *Client) send(ctx context.Context, method, address, token string, in, out any) error {
	body, err := encode(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the plane: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, responseMax+1))
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the plane's answer: %w", err)
	case len(b) > responseMax:
		return fmt.Errorf("cannot use the plane's answer: longer than %d bytes", responseMax)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return errorOf(resp, b)
	}
	return decode(b, out)
}

func encode(in any) (io.Reader, error) {
	switch v := in.(type) {
	case nil:
		return http.NoBody, nil
	case []byte:
		return bytes.NewReader(v), nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the request: %w", err)
	}
	return bytes.NewReader(b), nil
}

func decode(b []byte, out any) error {
	switch v := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = b
		return nil
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("cannot read the plane's answer: %w", err)
	}
	return nil
}

// withoutURL takes the address out of an http error: it may hold a query the
// log should not.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// errorOf reads the error forms of the plane's surfaces: ARM, Graph and Key
// Vault nest code and message under "error", OAuth has two strings.
func errorOf(resp *http.Response, b []byte) *Error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("x-ms-request-id")}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	var body struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(b, &body) != nil {
		return e
	}
	var nested struct{ Code, Message string }
	if json.Unmarshal(body.Error, &nested) == nil {
		e.Code, e.Message = nested.Code, nested.Message
		return e
	}
	_ = json.Unmarshal(body.Error, &e.Code)
	e.Message, _, _ = strings.Cut(body.Description, "\r\n")
	return e
}

// Get reads a resource or document of the management host.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, nil, out)
}

// Put creates or replaces a resource.
func (c *Client) Put(ctx context.Context, path string, in, out any) error {
	return c.Do(ctx, http.MethodPut, path, in, out)
}

// Patch changes part of a resource.
func (c *Client) Patch(ctx context.Context, path string, in, out any) error {
	return c.Do(ctx, http.MethodPatch, path, in, out)
}

// Delete removes a resource.
func (c *Client) Delete(ctx context.Context, path string) error {
	return c.Do(ctx, http.MethodDelete, path, nil, nil)
}

// Action posts to a resource's action, such as {siteId}/runtimeToken.
func (c *Client) Action(ctx context.Context, id, action string, in, out any) error {
	return c.Do(ctx, http.MethodPost, id+"/"+action, in, out)
}

// maxPages bounds a list: 10,000 pages of ARM's usual 100 to 1,000 entries.
const maxPages = 10_000

// Pages calls f with each page of a list on any host of the plane, following
// nextLink, which must stay on that host. f may stop by returning an error.
func (c *Client) Pages(ctx context.Context, host, path string, f func(page json.RawMessage) error) error {
	for range maxPages {
		var page struct {
			Value    json.RawMessage `json:"value"`
			NextLink string          `json:"nextLink"`
			Graph    string          `json:"@odata.nextLink"`
		}
		if err := c.DoHost(ctx, host, http.MethodGet, path, nil, &page); err != nil {
			return err
		}
		if err := f(page.Value); err != nil {
			return err
		}
		next := page.NextLink + page.Graph
		if next == "" {
			return nil
		}
		u, err := url.Parse(next)
		if err != nil || u.Hostname() != host || u.Path == "" {
			return errors.New("cannot follow the list: the plane's next link leaves its host")
		}
		path = u.RequestURI()
	}
	return fmt.Errorf("cannot follow the list: more than %d pages", maxPages)
}

// List reads a whole list of the management host into out, which must point
// to a slice.
func List[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	if !strings.Contains(path, "api-version=") {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "api-version=" + APIVersion
	}
	all := []T{}
	err := c.Pages(ctx, "management."+c.plane.Domain, path, func(page json.RawMessage) error {
		if len(page) == 0 {
			return nil
		}
		var part []T
		if err := json.Unmarshal(page, &part); err != nil {
			return fmt.Errorf("cannot read the list: %w", err)
		}
		all = append(all, part...)
		return nil
	})
	return all, err
}
