package arm

import (
	"context"
	"encoding/json"
	"net/http"
	"sort"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// document answers for a part of a resource. call.ID is the resource, path the
// folded path of the document, action the last word of a POST.
func (t *Type[P]) document(ctx context.Context, call *Call, path, action string) (any, error) {
	doc, full, _ := findFold(t.hooks.Documents, path)
	word, _, _ := strings.Cut(full, "/")
	rights := t.about.rights + "/" + word
	switch {
	case action != "" && doc.Secret && strings.EqualFold(action, "list"):
		return t.readDocument(ctx, call, doc, full, guard.Control(rights+"/list/action"))
	case action != "":
		return nil, az.Errorf(az.NotFound, "NotFound", "The document '%s' has no action of this name.", full)
	case call.Method == http.MethodGet || call.Method == http.MethodHead:
		if doc.Secret {
			return nil, az.Errorf(az.Unsupported, "MethodNotAllowed", "The document '%s' holds values that may be secret; read it by POST to '%s/list'.", full, full)
		}
		return t.readDocument(ctx, call, doc, full, guard.Control(rights+"/read"))
	case call.Method == http.MethodPut && doc.Write != nil,
		call.Method == http.MethodPatch && doc.Write != nil && !doc.Secret:
		return t.writeDocument(ctx, call, doc, full, guard.Control(rights+"/write"))
	}
	return nil, notServed(call.Method)
}

func (t *Type[P]) readDocument(ctx context.Context, call *Call, doc Document[P], path string, right guard.Action) (any, error) {
	call.right = right
	if err := call.Check(ctx, right, call.ID); err != nil {
		return nil, err
	}
	r, err := t.mustLoad(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	return t.showDocument(ctx, call, doc, path, r)
}

func (t *Type[P]) writeDocument(ctx context.Context, call *Call, doc Document[P], path string, right guard.Action) (any, error) {
	call.right = right
	if err := call.Check(ctx, right, call.ID); err != nil {
		return nil, err
	}
	given := call.Body
	call.mustExist = true
	out, _, err := t.saveChecked(ctx, call, func(old *Resource[P]) (*Resource[P], error) {
		r := old.clone()
		if call.Method == http.MethodPatch {
			was, err := t.showDocument(ctx, call, doc, path, r)
			if err != nil {
				return nil, err
			}
			b, err := json.Marshal(was)
			if err != nil {
				return nil, az.Errorf(az.Internal, "", "").Because(err)
			}
			merged, err := mergeJSON(b, given)
			if err != nil {
				return nil, err
			}
			call.setBody(merged)
		}
		return r, doc.Write(ctx, call, r)
	}, false)
	if err != nil {
		return nil, err
	}
	return t.showDocument(ctx, call, doc, path, out)
}

func (t *Type[P]) showDocument(ctx context.Context, call *Call, doc Document[P], path string, r *Resource[P]) (*shown, error) {
	v, err := doc.Read(ctx, call, r)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	id := r.ID.Child(strings.Split(path, "/")...)
	return &shown{ID: id, Name: id.Name(), Type: t.about.name + "/" + strings.SplitN(path, "/", 2)[0], Location: r.Location, Properties: raw}, nil
}

// documents lists those documents of a resource that are not secret, for GET
// of sites/{name}/config.
func (t *Type[P]) documents(ctx context.Context, call *Call, word string) (any, error) {
	var paths []string
	for path, doc := range t.hooks.Documents {
		if first, _, deeper := strings.Cut(path, "/"); deeper && strings.EqualFold(first, word) && !doc.Secret {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, unknownType(call.path)
	}
	sort.Strings(paths)
	first, _, _ := strings.Cut(paths[0], "/")
	call.right = guard.Control(t.about.rights + "/" + first + "/read")
	if err := call.Check(ctx, call.right, call.ID); err != nil {
		return nil, err
	}
	r, err := t.mustLoad(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	page := Page{}
	for _, path := range paths {
		v, err := t.showDocument(ctx, call, t.hooks.Documents[path], path, r)
		if err != nil {
			return nil, err
		}
		page.Value = append(page.Value, v)
	}
	return page, nil
}
