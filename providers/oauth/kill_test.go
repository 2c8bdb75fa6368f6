package oauth

const holderPlan = "PATCHBAY_OAUTH_HOLDER"

func holder(string) {}
