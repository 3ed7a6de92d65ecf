package web

import "riparo/web/api"

// What the console asks of the daemon is what the API asks, so the words live
// there; these names are for those who only know the console.
type (
	Appliance      = api.Appliance
	Verbs          = api.Verbs
	Inventory      = api.Inventory
	Reporter       = api.Reporter
	ProtectRequest = api.ProtectRequest
	Request        = api.Request
	DiscoveredSite = api.DiscoveredSite
	VaultUsage     = api.VaultUsage
	Report         = api.Report
	MachineReport  = api.MachineReport
)

// SampleEvery is the time between two samples of a history of a Report.
const SampleEvery = api.SampleEvery
