import { render } from "preact";
import "./style.css";

const data = document.querySelector("#structmat-data");
if (data) render(<p>explorer</p>, document.body);
