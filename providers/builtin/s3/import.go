package s3

import "maps"

// handedOut are the names under which vendors hand keys out:
//
//	aws iam create-access-key   {"AccessKey": {"AccessKeyId", "SecretAccessKey", ...}}
//	aws sts assume-role         {"Credentials": {"AccessKeyId", "SecretAccessKey",
//	                            "SessionToken", "Expiration"}, ...}
//	credential_process          {"Version", "AccessKeyId", "SecretAccessKey",
//	                            "SessionToken", "Expiration"}
//	MinIO's console             {"url", "accessKey", "secretKey", "api", "path"}
//
// "" drops what is no param: who owns a key, when it ends, and MinIO's url, which
// is that of its console.
var handedOut = map[string]string{
	"AccessKeyId": "access_key_id", "SecretAccessKey": "secret_access_key", "SessionToken": "session_token", "Token": "session_token",
	"UserName": "", "Status": "", "CreateDate": "", "Expiration": "", "Version": "",
	"AssumedRoleUser": "", "PackedPolicySize": "", "SourceIdentity": "",
}

var handedOutByMinIO = map[string]string{
	"accessKey": "access_key_id", "secretKey": "secret_access_key", "url": "", "api": "", "path": "",
}

// vendorKeys gives what a vendor handed out the names of the schema. Anything
// else is returned as it is. raw is not modified.
func vendorKeys(raw map[string]any) map[string]any {
	out := maps.Clone(raw)
	for _, wrapper := range []string{"AccessKey", "Credentials"} {
		inner, ok := out[wrapper].(map[string]any)
		if _, keys := inner["AccessKeyId"]; ok && keys {
			delete(out, wrapper)
			maps.Copy(out, inner)
		}
	}
	names := handedOut
	if _, minio := out["accessKey"]; minio {
		names = handedOutByMinIO
	} else if _, amazon := out["AccessKeyId"]; !amazon {
		return out
	}
	for from, to := range names {
		if v, ok := out[from]; ok {
			delete(out, from)
			if to != "" {
				out[to] = v
			}
		}
	}
	return out
}
