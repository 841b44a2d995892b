package site

import (
	"strings"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
)

// Limits of settings. The environment of a process is what bounds them: Linux
// takes 128 KiB for one variable (MAX_ARG_STRLEN) and, with the usual 8 MiB
// stack, 2 MiB for all arguments and variables (a quarter of the stack limit,
// execve(2)); every setting is there twice, under its name and APPSETTING_.
const (
	maxSettings     = 1000
	maxSettingName  = 256
	maxSettingValue = 64 << 10
	maxSettingsSize = 512 << 10 // names and values of a site together
)

// ConnectionString is a connection string with its type, whose prefix its
// variable gets.
type ConnectionString struct {
	Value string `json:"value"`
	Type  string `json:"type"`
}

// String hides the value.
func (c ConnectionString) String() string { return c.Type + ":" + az.Redacted }

// GoString hides the value.
func (c ConnectionString) GoString() string { return c.String() }

// Settings are app settings and connection strings by name.
type Settings struct {
	App         map[string]string
	Connections map[string]ConnectionString
}

// String hides the values.
func (s Settings) String() string { return az.Redacted }

// GoString hides the values.
func (s Settings) GoString() string { return az.Redacted }

// SlotNames are the settings that stay with a slot. This plane has one slot
// for each app, so they are kept for the clients that ask.
type SlotNames struct {
	AppSettings       []string `json:"appSettingNames"`
	ConnectionStrings []string `json:"connectionStringNames"`
	AzureStorage      []string `json:"azureStorageConfigNames"`
}

// document is what a site's settings are sealed as: one row, so that a reader
// sees all of a change or nothing of it.
type document struct {
	App         map[string]string           `json:"app,omitempty"`
	Connections map[string]ConnectionString `json:"connections,omitempty"`
	Slot        SlotNames                   `json:"slot"`
	// Owned says which connection wrote a setting, and what it found there.
	Owned map[string]owned `json:"owned,omitempty"`
}

// owned is a setting written for a connection of Service Connector.
type owned struct {
	By         string            `json:"by"` // folded id of the connection
	Setting    *string           `json:"setting,omitempty"`
	Connection *ConnectionString `json:"connection,omitempty"`
}

const (
	ownedSetting    = "s/"
	ownedConnection = "c/"
)

// replaceApp sets all app settings. A setting that a connection wrote stays
// the connection's as long as its value does.
func (d *document) replaceApp(all map[string]string) {
	for name, old := range d.App {
		if v, ok := all[name]; !ok || v != old {
			delete(d.Owned, ownedSetting+name)
		}
	}
	d.App = all
}

// replaceConnections is replaceApp for connection strings.
func (d *document) replaceConnections(all map[string]ConnectionString) {
	for name, old := range d.Connections {
		if v, ok := all[name]; !ok || v != old {
			delete(d.Owned, ownedConnection+name)
		}
	}
	d.Connections = all
}

// give makes the settings of a connection exactly s: what it wrote before and
// does not write now is taken away. It refuses what another connection wrote.
func (d *document) give(owner az.ID, s Settings) error {
	if err := d.refuseOthers(owner, s); err != nil {
		return err
	}
	d.take(owner, func(key string) bool {
		if name, isSetting := strings.CutPrefix(key, ownedSetting); isSetting {
			_, again := s.App[name]
			return !again
		}
		_, again := s.Connections[strings.TrimPrefix(key, ownedConnection)]
		return !again
	})
	d.init()
	for name, value := range s.App {
		if _, mine := d.Owned[ownedSetting+name]; !mine {
			o := owned{By: owner.Key()}
			if before, ok := d.App[name]; ok {
				o.Setting = &before
			}
			d.Owned[ownedSetting+name] = o
		}
		d.App[name] = value
	}
	for name, value := range s.Connections {
		if _, mine := d.Owned[ownedConnection+name]; !mine {
			o := owned{By: owner.Key()}
			if before, ok := d.Connections[name]; ok {
				o.Connection = &before
			}
			d.Owned[ownedConnection+name] = o
		}
		d.Connections[name] = value
	}
	return nil
}

// refuseOthers refuses names that another connection has written.
func (d *document) refuseOthers(owner az.ID, s Settings) error {
	for name := range s.App {
		if o, ok := d.Owned[ownedSetting+name]; ok && o.By != owner.Key() {
			return ownedByOther("setting", name, o)
		}
	}
	for name := range s.Connections {
		if o, ok := d.Owned[ownedConnection+name]; ok && o.By != owner.Key() {
			return ownedByOther("connection string", name, o)
		}
	}
	return nil
}

// take removes what a connection wrote, where which says so, and puts back
// what it had found.
func (d *document) take(owner az.ID, which func(key string) bool) (any bool) {
	for key, o := range d.Owned {
		if o.By != owner.Key() || !which(key) {
			continue
		}
		any = true
		delete(d.Owned, key)
		if name, ok := strings.CutPrefix(key, ownedSetting); ok {
			delete(d.App, name)
			if o.Setting != nil {
				d.App[name] = *o.Setting
			}
			continue
		}
		name := strings.TrimPrefix(key, ownedConnection)
		delete(d.Connections, name)
		if o.Connection != nil {
			d.Connections[name] = *o.Connection
		}
	}
	return any
}

// ownedBy lists what a connection wrote.
func (d *document) ownedBy(owner az.ID) Settings {
	s := Settings{map[string]string{}, map[string]ConnectionString{}}
	for key, o := range d.Owned {
		if o.By != owner.Key() {
			continue
		}
		if name, ok := strings.CutPrefix(key, ownedSetting); ok {
			s.App[name] = d.App[name]
		} else {
			name := strings.TrimPrefix(key, ownedConnection)
			s.Connections[name] = d.Connections[name]
		}
	}
	return s
}

func (d *document) init() {
	if d.App == nil {
		d.App = map[string]string{}
	}
	if d.Connections == nil {
		d.Connections = map[string]ConnectionString{}
	}
	if d.Owned == nil {
		d.Owned = map[string]owned{}
	}
}

// check applies the rules for names, values and sizes, and brings connection
// string types to their own spelling.
func (d *document) check() error {
	if n := len(d.App) + len(d.Connections); n > maxSettings {
		return badSetting("The app would have %d settings; it may have %d.", n, maxSettings)
	}
	size := 0
	for name, value := range d.App {
		if err := checkSetting("setting", name, value); err != nil {
			return err
		}
		size += len(name) + len(value)
	}
	for name, c := range d.Connections {
		if err := checkSetting("connection string", name, c.Value); err != nil {
			return err
		}
		t, ok := connectionType(c.Type)
		if !ok {
			return badSetting("The connection string '%s' has no type that is known. Use SQLAzure, SQLServer, MySql, PostgreSQL, Custom or another type of App Service.", name)
		}
		if t != c.Type {
			d.Connections[name] = ConnectionString{c.Value, t}
		}
		size += len(name) + len(c.Value)
	}
	if size > maxSettingsSize {
		return badSetting("The app's settings would be %d bytes; together they may be %d. Keep large values in a file or a vault.", size, maxSettingsSize)
	}
	return d.Slot.check()
}

func checkSetting(what, name, value string) error {
	if !validSettingName(name) {
		// The name is not repeated: it may be anything.
		return badSetting("A %s has a name that cannot become a variable. Use 1 to %d letters, digits, '_', '.', ':' and '-'.", what, maxSettingName)
	}
	if strings.HasPrefix(strings.ToUpper(variableName(name)), reservedPrefix) {
		return badSetting("The %s '%s' begins with %s, which is kept for the plane. Choose another name.", what, name, reservedPrefix)
	}
	switch {
	case len(value) > maxSettingValue:
		return badSetting("The value of the %s '%s' is %d bytes; a value may have %d.", what, name, len(value), maxSettingValue)
	case strings.IndexByte(value, 0) >= 0:
		return badSetting("The value of the %s '%s' holds a NUL byte, which no environment can carry.", what, name)
	case !utf8.ValidString(value):
		return badSetting("The value of the %s '%s' is not UTF-8. Encode it, for example in base64.", what, name)
	}
	return nil
}

// reservedPrefix is never passed on to an app, so a setting must not have it.
const reservedPrefix = "HAWSER_"

// validSettingName admits what stays one variable on every system.
func validSettingName(s string) bool {
	return len(s) >= 1 && len(s) <= maxSettingName && only(s, func(c byte) bool {
		return isLetter(c) || isDigit(c) || c == '_' || c == '.' || c == ':' || c == '-'
	})
}

func (n SlotNames) check() error {
	for _, list := range [][]string{n.AppSettings, n.ConnectionStrings, n.AzureStorage} {
		if len(list) > maxSettings {
			return badSetting("There may be %d names that stay with a slot.", maxSettings)
		}
		for _, name := range list {
			if !validSettingName(name) {
				return badSetting("A name that stays with a slot is no name of a setting.")
			}
		}
	}
	return nil
}

func badSetting(format string, args ...any) error {
	return az.Errorf(az.Invalid, "BadRequest", format, args...)
}

func ownedByOther(what, name string, o owned) error {
	return az.Errorf(az.Conflict, "Conflict",
		"The %s '%s' belongs to another connection (%s). Delete that one, or give this connection its own prefix.", what, name, o.By)
}
