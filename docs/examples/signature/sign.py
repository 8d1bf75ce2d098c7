# Signs a postback: python3 sign.py SECRET 'name=value' 'name=value' …
# Prints the query to append to the postback URL after "?".

import hashlib
import hmac
import os
import sys
from urllib.parse import quote

secret, *arguments = map(os.fsencode, sys.argv[1:])
parameters = [argument.split(b"=", 1) for argument in arguments]

parameters.sort(key=lambda parameter: parameter[0])
query = "&".join(
    quote(name, safe="") + "=" + quote(value, safe="") for name, value in parameters
)

sig = hmac.new(secret, query.encode(), hashlib.sha256).hexdigest()
print(query + "&sig=" + sig)
