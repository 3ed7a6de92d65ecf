// Package certificate keeps the certificate that the console shows: issued by an
// authority of the appliance's own, or one that a person brought.
//
// The authority is made at the first start and lives in the folder pki. It vouches for
// this appliance and nothing else. Who trusts it trusts every later certificate of the
// console; who compares fingerprints does so again when one is renewed.
package certificate
