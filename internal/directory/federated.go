package directory

import (
	"context"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

func federatedView(c *Credential) map[string]any {
	return map[string]any{"id": c.ID, "name": c.Name, "issuer": c.Issuer, "subject": c.Subject, "audiences": list(c.Audiences), "description": text(c.Description)}
}

func (d *Directory) listFederated(ctx context.Context, c *call) (any, error) {
	creds, err := d.credentials(ctx, c.target.ID)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, cr := range creds {
		if cr.Kind == Federated {
			out = append(out, federatedView(cr))
		}
	}
	return map[string]any{"@odata.context": c.base + "/$metadata#federatedIdentityCredentials", "value": out}, nil
}

func (d *Directory) showFederated(ctx context.Context, c *call) (any, error) {
	creds, err := d.credentials(ctx, c.target.ID)
	if err != nil {
		return nil, err
	}
	for _, cr := range creds {
		if word := c.vars["credential"]; cr.Kind == Federated && (strings.EqualFold(cr.ID, word) || cr.Name == word || "name="+cr.Name == word) {
			return federatedView(cr), nil
		}
	}
	return nil, notFound(c.vars["credential"])
}

type federatedBody struct {
	Name        opt[string]   `json:"name"`
	Issuer      opt[string]   `json:"issuer"`
	Subject     opt[string]   `json:"subject"`
	Audiences   opt[[]string] `json:"audiences"`
	Description opt[string]   `json:"description"`
}

func (b *federatedBody) into(f *CredentialFacts) {
	b.Issuer.put(&f.Issuer)
	b.Subject.put(&f.Subject)
	b.Audiences.put(&f.Audiences)
	b.Description.put(&f.Description)
}

func (d *Directory) createFederated(ctx context.Context, c *call) (any, error) {
	var b federatedBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if err := d.guardApplication(ctx, c, c.target); err != nil {
		return nil, err
	}
	f := CredentialFacts{Name: b.Name.v}
	b.into(&f)
	var made *Credential
	err := d.store.Write(ctx, func(tx *store.Tx) (err error) {
		if _, err := existing(tx, Application, c.target.ID); err != nil {
			return err
		}
		made, err = d.AddFederated(tx, c.target.ID, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Status: http.StatusCreated, Body: federatedView(made)}, nil
}

func (d *Directory) patchFederated(ctx context.Context, c *call) (any, error) {
	var b federatedBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if err := d.guardApplication(ctx, c, c.target); err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		cr, err := credentialNamed(tx, c.target.ID, Federated, c.vars["credential"])
		if err != nil {
			return err
		}
		if b.Name.there && b.Name.v != cr.Name {
			return az.Errorf(az.Invalid, "Request_BadRequest", "The name of a federated identity credential cannot be changed.")
		}
		b.into(&cr.CredentialFacts)
		return d.updateFederated(tx, c.target.ID, cr)
	})
}

func (d *Directory) deleteFederated(ctx context.Context, c *call) (any, error) {
	if err := d.guardApplication(ctx, c, c.target); err != nil {
		return nil, err
	}
	return nil, d.removeCredential(ctx, c.target.ID, Federated, c.vars["credential"], false)
}
