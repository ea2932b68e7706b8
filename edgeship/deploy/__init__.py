"""Deploy: transports, the client of the agent, fit check, the plan of a push to one device and its performer."""
