"""The local cloud: the deployed system on one machine; `cloud` leads here."""
