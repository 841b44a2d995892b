package site

import (
	"context"
	"encoding/xml"
	"net/http"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

type siteAction = arm.ResourceAction[properties]

func (s *Sites) actions() map[string]siteAction {
	return map[string]siteAction{
		"restart":            {Run: s.setState("")},
		"start":              {Run: s.setState(stateRunning)},
		"stop":               {Run: s.setState(stateStopped)},
		"publishxml":         {Run: s.publishXML},
		"runtimeEnvironment": {Run: s.runtimeEnvironment},
		"runtimeToken":       {Run: s.runtimeToken},
		"upstream":           {Run: s.upstream},
		"enableAuth":         {Run: s.enableAuth},
	}
}

// setState changes what state a site is said to be in; "" asks for a restart.
// The environment's etag changes with it, so a running app hears of it.
func (s *Sites) setState(state string) func(context.Context, *arm.Call, *arm.Resource[properties]) (any, error) {
	return func(ctx context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
		err := s.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			return s.rewrite(tx, r.ID, func(now *arm.Resource[properties]) (bool, error) {
				p := &now.Properties
				if state == p.State {
					return false, nil
				}
				if state == "" {
					p.Restarted = tx.Now()
				} else {
					p.State = state
				}
				return true, nil
			})
		})
		if err != nil {
			return nil, err
		}
		return &rest.Reply{Status: http.StatusOK}, nil
	}
}

func (s *Sites) runtimeEnvironment(ctx context.Context, call *arm.Call, r *arm.Resource[properties]) (any, error) {
	var in struct {
		ETag        string `json:"etag"`
		WaitSeconds int    `json:"waitSeconds"`
	}
	if len(call.Body) > 0 {
		if err := call.Decode(&in); err != nil {
			return nil, err
		}
	}
	if in.WaitSeconds < 0 || in.WaitSeconds > int(maxWait/time.Second) {
		return nil, az.Errorf(az.Invalid, "BadRequest", "waitSeconds must be 0 to %d.", int(maxWait/time.Second))
	}
	return s.await(ctx, call.Caller, r, in.ETag, time.Duration(in.WaitSeconds)*time.Second)
}

// publishData is a publish profile in form only: nothing can be published to
// an app that runs wherever its owner starts it, so it holds no password.
type publishData struct {
	XMLName  xml.Name         `xml:"publishData"`
	Profiles []publishProfile `xml:"publishProfile"`
}

type publishProfile struct {
	Name   string `xml:"profileName,attr"`
	Method string `xml:"publishMethod,attr"`
	URL    string `xml:"publishUrl,attr"`
	Site   string `xml:"msdeploySite,attr"`
	User   string `xml:"userName,attr"`
	Pass   string `xml:"userPWD,attr"`
	Dest   string `xml:"destinationAppUrl,attr"`
}

func (s *Sites) publishXML(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	name := r.ID.Name()
	dest := "https://" + s.cfg.Names.HostPort(s.cfg.Names.Of(az.SurfaceSites, name))
	body, err := xml.Marshal(publishData{Profiles: []publishProfile{
		{Name: name + " - Web Deploy", Method: "MSDeploy", Site: name, Dest: dest},
		{Name: name + " - FTP", Method: "FTP", Dest: dest},
	}})
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Header: http.Header{"Content-Type": {"application/xml"}}, Body: body}, nil
}
