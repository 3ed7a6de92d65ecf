package store

// SettingSecond holds a SecondRule.
const SettingSecond = "second"

// SecondRule says whose accounts of this appliance have to have a second factor.
type SecondRule struct {
	Roles []Role `json:"roles"`
}
